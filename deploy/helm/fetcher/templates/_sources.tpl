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

{{- define "ome.egressToParser" -}}
{{- if .Values.parserAddress -}}
- ports:
    - port: {{ regexFind ":[0-9]+$" .Values.parserAddress | trimPrefix ":" }}
      protocol: TCP
{{- else -}}
- ports:
    - port: 9090
      protocol: TCP
  to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: ome-parser
{{- end }}
{{- end }}

{{/* An address stands for the network of this address alone. */}}
{{- define "ome.network" -}}
{{- if contains "/" . }}{{ . }}{{ else if contains ":" . }}{{ . }}/128{{ else }}{{ . }}/32{{ end -}}
{{- end }}

{{/* A source is anywhere, but not in the networks of the cluster; which model may reach what, the services decide. */}}
{{- define "ome.egressToSources" -}}
{{- if .Values.egress.clusterRanges -}}
- to:
    {{- range $everything := list "0.0.0.0/0" "::/0" }}
    - ipBlock:
        cidr: {{ $everything | quote }}
        {{- $except := list }}
        {{- range $.Values.egress.clusterRanges }}
        {{- if eq (contains ":" .) (contains ":" $everything) }}
        {{- $except = append $except (include "ome.network" .) }}
        {{- end }}
        {{- end }}
        {{- with $except }}
        except:
          {{- toYaml . | nindent 10 }}
        {{- end }}
    {{- end }}
    {{- range .Values.egress.allow }}
    {{- if or (contains ":" .) (regexMatch "^[0-9.]+(/[0-9]+)?$" .) }}
    - ipBlock:
        cidr: {{ include "ome.network" . | quote }}
    {{- end }}
    {{- end }}
{{- else -}}
- {}
{{- end }}
{{- end }}
