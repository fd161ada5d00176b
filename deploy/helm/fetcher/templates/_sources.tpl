{{/*
What fetcher and resolver are told alike about reaching sources: certificates and proxies.
*/}}

{{- define "ome.sources.env" -}}
{{- if include "ome.sources.authorities" . }}
- name: OME_SOURCE_CA_FILE
  value: /etc/ome/source-ca/{{ .Values.trust.caKey }}
{{- end }}
{{- with .Values.proxy.http }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.proxy.https }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.proxy.noProxy }}
- name: NO_PROXY
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}

{{/* The volume with the certificates; empty without any. */}}
{{- define "ome.sources.authorities" -}}
{{- $trust := .Values.trust -}}
{{- if gt (len (compact (list $trust.caBundle $trust.caConfigMap $trust.caSecret))) 1 -}}
{{- fail "trust: give one of caBundle, caConfigMap and caSecret" -}}
{{- end -}}
{{- if $trust.caBundle -}}
- name: source-ca
  configMap:
    name: {{ .Chart.Name }}-source-ca
{{- else if $trust.caConfigMap -}}
- name: source-ca
  configMap:
    name: {{ $trust.caConfigMap }}
{{- else if $trust.caSecret -}}
- name: source-ca
  secret:
    secretName: {{ $trust.caSecret }}
{{- end -}}
{{- end }}

{{/* What the Pods read when they start: another content starts them anew. */}}
{{- define "ome.sources.annotations" -}}
{{- with .Values.vendorDrivers }}
checksum/vendor-drivers: {{ toJson . | sha256sum }}
{{- end }}
{{- with .Values.trust.caBundle }}
checksum/source-ca: {{ . | sha256sum }}
{{- end }}
{{- end }}
