{{- define "scaler.name" -}}
{{- .Values.nameOverride | default "keda-kaito-scaler" | trunc 59 | trimSuffix "-" -}}
{{- end -}}

{{- define "scaler.service" -}}
{{- include "scaler.name" . }}-svc
{{- end -}}

{{- define "scaler.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
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
