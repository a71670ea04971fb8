{{- define "scaler.name" -}}
{{- .Values.nameOverride | default "keda-kaito-scaler" | trunc 59 | trimSuffix "-" -}}
{{- end -}}

{{- define "scaler.service" -}}
{{- include "scaler.name" . }}-svc
{{- end -}}

{{- define "scaler.account" -}}
{{- $given := .Values.serviceAccount.name -}}
{{- if not (or .Values.serviceAccount.create $given) -}}
{{- fail "serviceAccount.create is false: give serviceAccount.name" -}}
{{- end -}}
{{- $given | default (include "scaler.name" .) -}}
{{- end -}}

{{- define "scaler.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* What a Deployment is selected by can never change, so no version in it. */}}
{{- define "scaler.selector" -}}
app.kubernetes.io/name: {{ include "scaler.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "scaler.labels" -}}
{{ include "scaler.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
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
