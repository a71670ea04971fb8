{{- define "earlier.name" -}}
{{- .Values.nameOverrider | default .Chart.Name -}}
{{- end -}}

{{- define "earlier.selector" -}}
app.kubernetes.io/name: {{ include "earlier.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "earlier.labels" -}}
{{ include "earlier.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
