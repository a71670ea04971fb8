{{/*
What is missing in the values or null gets its default, so that no template has
to look. Values are missing after helm upgrade --reuse-values from an earlier
chart. In the maps of $whole an entry may be left out on purpose. Each template
begins with this: no other one need have been rendered before it.
*/}}
{{- define "scaler.defaults" -}}
{{- include "scaler.dropNull" .Values -}}
{{- $whole := list "podSecurityContext" "securityContext" "resources" -}}
{{- range $key, $default := .Files.Get "files/defaults.yaml" | fromYaml -}}
{{- if not (hasKey $.Values $key) -}}
{{- $_ := set $.Values $key $default -}}
{{- else if and (kindIs "map" $default) (not (has $key $whole)) -}}
{{- $given := index $.Values $key -}}
{{- range $inner, $value := $default -}}
{{- if not (hasKey $given $inner) }}{{ $_ := set $given $inner $value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "scaler.dropNull" -}}
{{- range $key, $value := . -}}
{{- if kindIs "invalid" $value }}{{ $_ := unset $ $key }}
{{- else if kindIs "map" $value }}{{ include "scaler.dropNull" $value }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "scaler.name" -}}
{{- .Values.nameOverride | default "keda-kaito-scaler" | trunc 59 | trimSuffix "-" -}}
{{- end -}}

{{/* Not the release's name: users know the objects by theirs, whatever installed them. */}}
{{- define "scaler.fullname" -}}
{{- .Values.fullnameOverride | default (include "scaler.name" .) | trunc 59 | trimSuffix "-" -}}
{{- end -}}

{{- define "scaler.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{/*
KEDA's namespace: as given; else that of KEDA's metrics server, where Helm may ask
the cluster; else the scaler's own.
*/}}
{{- define "scaler.kedaNamespace" -}}
{{- .Values.keda.namespace | default (include "scaler.kedaFound" .) | default (include "scaler.namespace" .) -}}
{{- end -}}

{{/* Empty if nothing is given or found. */}}
{{- define "scaler.kedaFound" -}}
{{- if and (not .Values.keda.namespace) (.Capabilities.APIVersions.Has "apiregistration.k8s.io/v1") -}}
{{- with lookup "apiregistration.k8s.io/v1" "APIService" "" "v1beta1.external.metrics.k8s.io" -}}
{{- with .spec.service -}}
{{- if contains "keda" .name }}{{ .namespace }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" if KEDA is in another namespace than the scaler. */}}
{{- define "scaler.kedaElsewhere" -}}
{{- if ne (include "scaler.kedaNamespace" .) (include "scaler.namespace" .) }}true{{ end -}}
{{- end -}}

{{- define "scaler.service" -}}
{{- include "scaler.fullname" . }}-svc
{{- end -}}

{{- define "scaler.account" -}}
{{- $given := .Values.serviceAccount.name -}}
{{- if not (or .Values.serviceAccount.create $given) -}}
{{- fail "serviceAccount.create is false: give serviceAccount.name" -}}
{{- end -}}
{{- $given | default (printf "%s-sa" (include "scaler.fullname" .)) -}}
{{- end -}}

{{/*
A tag of the scaler before 0.7.0, such as earlier charts have in their values:
that program has other flags. 0.0.0-… is what Go and `make image` call a build
without a release.
*/}}
{{- define "scaler.earlierTag" -}}
{{- if not .Values.image.digest }}{{ regexFind "^v?0[.](0[.][0-9]+|[1-6]([.][0-9]+)?(-.*)?)$" (toString .Values.image.tag) }}{{ end -}}
{{- end -}}

{{- define "scaler.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if include "scaler.earlierTag" . }}{{ $tag = .Chart.AppVersion }}{{ end -}}
{{- with .Values.global.imageRegistry | default .Values.image.registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ $tag }}{{ end -}}
{{- end -}}

{{/* Names of Secrets, with `global.imagePullSecrets`, which other charts have as text or as `{name: …}`. */}}
{{- define "scaler.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (.Values.global.imagePullSecrets | default list) .Values.image.pullSecrets -}}
{{- if kindIs "string" . }}{{ $names = append $names (dict "name" .) }}{{ else }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- with $names | uniq }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* What a Deployment is selected by can never change, so no version in it. */}}
{{- define "scaler.selector" -}}
app.kubernetes.io/name: {{ include "scaler.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "scaler.labels" -}}
{{ include "scaler.labelsAnd" (list . dict) }}
{{- end -}}

{{/* The labels of an object, with more: (list CONTEXT MAP). The chart's own can't be replaced. */}}
{{- define "scaler.labelsAnd" -}}
{{- $context := index . 0 -}}
{{- with $context -}}
{{ include "scaler.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- range $key, $value := merge dict (index . 1) $context.Values.commonLabels -}}
{{- if not (has $key $own) }}
{{ $key }}: {{ $value | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* OpenShift admits a pod if its user is of the namespace's range, or if it leaves that to OpenShift. */}}
{{- define "scaler.podSecurityContext" -}}
{{- $given := .Values.podSecurityContext -}}
{{- $adapt := dig "compatibility" "openshift" "adaptSecurityContext" "auto" .Values.global -}}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
{{- $given = omit $given "runAsUser" "runAsGroup" "fsGroup" -}}
{{- end -}}
{{- with $given }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Charts before 0.7.0 tolerated the control plane's taint too: where the scaler ran, it goes on. */}}
{{- define "scaler.tolerations" -}}
- key: node-role.kubernetes.io/control-plane
  operator: Exists
  effect: NoSchedule
{{- with .Values.tolerations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
The rules of files/cluster-rules.yaml, as a list: those on objects that are in
no namespace, or the others. Call it with a dict of context and "clusterScoped".
*/}}
{{- define "scaler.rules" -}}
{{- $clusterScoped := list "clustertriggerauthentications" "tokenreviews" "subjectaccessreviews" "namespaces" -}}
{{- $rules := list -}}
{{- range .context.Files.Get "files/cluster-rules.yaml" | fromYamlArray -}}
{{- $is := false -}}
{{- range .resources -}}
{{- if has . $clusterScoped }}{{ $is = true }}{{ end -}}
{{- end -}}
{{- if eq $is $.clusterScoped }}{{ $rules = append $rules . }}{{ end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}
