{{- define "controller.parserImage" -}}
{{ printf "%s:%s" .Values.parserImage.repository (.Values.parserImage.tag | default .Chart.AppVersion) | quote }}
{{- end }}
