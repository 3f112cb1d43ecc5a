{{- define "keyturn.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $release := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- default $release .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "keyturn.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "keyturn.fullname" .) "default") .Values.serviceAccount.name }}
{{- end }}

{{- define "keyturn.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "keyturn.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{ include "keyturn.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "keyturn.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- /* What the operator may do, in the cluster or in one namespace. */}}
{{- define "keyturn.rules" -}}
- apiGroups: [keyturn.dev]
  resources: [tokenrequests]
  verbs: [get, list, watch]
- apiGroups: [keyturn.dev]
  resources: [tokenrequests/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]  # a CA bundle may be in one
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- if .Values.rbac.serviceAccountTokens }}
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
{{- end }}
{{- end }}

{{- define "keyturn.subjects" -}}
- kind: ServiceAccount
  name: {{ include "keyturn.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
