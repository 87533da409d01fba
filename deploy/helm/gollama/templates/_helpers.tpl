{{- /* Mappings are written in flow style (JSON), which needs no indentation. */ -}}
{{- define "gollama.name" -}}
{{ if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end -}}

{{- define "gollama.selector" -}}
{"app.kubernetes.io/name": {{ .Chart.Name | quote }}, "app.kubernetes.io/instance": {{ .Release.Name | quote }}}
{{- end -}}

{{- define "gollama.labels" -}}
{"app.kubernetes.io/name": {{ .Chart.Name | quote }}, "app.kubernetes.io/instance": {{ .Release.Name | quote }}, "app.kubernetes.io/version": {{ .Chart.AppVersion | quote }}, "app.kubernetes.io/managed-by": {{ .Release.Service | quote }}, "helm.sh/chart": {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}}
{{- end -}}

{{- /* A table of values as TOML, each line indented for the config map: JSON's texts, numbers and lists are TOML's too. Takes `path`,
empty for the whole, and `table`. */ -}}
{{- define "gollama.toml" -}}
{{- range $name, $value := .table }}{{ if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
    {{ $name | quote }} = {{ toJson $value }}
{{- end }}{{ end }}
{{- $path := .path -}}
{{- range $name, $value := .table }}{{ if kindIs "map" $value }}
    [{{ $path }}{{ $name | quote }}]
{{- template "gollama.toml" (dict "path" (printf "%s%s." $path ($name | quote)) "table" $value) }}
{{- end }}{{ end }}
{{- end -}}
