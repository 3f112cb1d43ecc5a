{{- /* If a parent chart uses the chart under an alias, the alias is the chart's name. It is always part of the full name,
because a release name may contain several aliases. A long name is shortened with a hash, because two aliases may have the
same beginning. */}}
{{- define "keyturn.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride | lower | replace "_" "-" }}
{{- $isReleaseName := and (eq .Chart.Name "keyturn") (contains $name .Release.Name) }}
{{- $full := default ($isReleaseName | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) .Values.fullnameOverride }}
{{- gt (len $full) 55 | ternary (printf "%s-%s" (trunc 46 $full | trimSuffix "-") (sha256sum $full | trunc 8)) $full }}
{{- end }}

{{- define "keyturn.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "keyturn.leaseName" -}}
{{- default (include "keyturn.fullname" .) .Values.leaseName }}
{{- end }}

{{- define "keyturn.issuanceKeySecret" -}}
{{- default (printf "%s-issuance-key" (include "keyturn.leaseName" .)) .Values.issuanceKeySecret }}
{{- end }}

{{- define "keyturn.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "keyturn.fullname" .) "default") .Values.serviceAccount.name }}
{{- end }}

{{- /* On OpenShift the default user and group are omitted: OpenShift assigns them, and rejects pods that set others. */}}
{{- define "keyturn.podSecurityContext" -}}
{{- $context := default dict .Values.podSecurityContext }}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1/SecurityContextConstraints" }}
{{- range $id := list "runAsUser" "runAsGroup" }}
{{- if eq (get $context $id | toString) "65532" }}{{ $context = omit $context $id }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml $context }}
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

{{- define "keyturn.imageRepository" -}}
{{- $remedy := "build the image with the Dockerfile, push it to a registry that the cluster can pull from, and set image.repository and image.tag" }}
{{- required (printf "image.repository is empty, and a chart from the source tree has no default image: %s" $remedy) .Values.image.repository }}
{{- end }}

{{- define "keyturn.imageTag" -}}
{{- default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{- define "keyturn.image" -}}
{{- include "keyturn.imageRepository" . }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ include "keyturn.imageTag" . }}{{ end }}
{{- end }}

{{- /* The environment of the operator. Kubernetes expands $(KUBERNETES_SERVICE_HOST). */}}
{{- define "keyturn.environment" -}}
{{- $environment := list }}
{{- with (.Values.proxy).existingSecret }}
{{- range $key := list "HTTPS_PROXY" "HTTP_PROXY" }}
{{- $reference := dict "name" $.Values.proxy.existingSecret "key" $key "optional" (eq $key "HTTP_PROXY") }}
{{- $environment = append $environment (dict "name" $key "valueFrom" (dict "secretKeyRef" $reference)) }}
{{- end }}
{{- end }}
{{- if or (.Values.proxy).existingSecret (.Values.proxy).noProxy }}
{{- $direct := concat (list "$(KUBERNETES_SERVICE_HOST)" "169.254.169.254") (default list .Values.proxy.noProxy) }}
{{- $environment = append $environment (dict "name" "NO_PROXY" "value" (join "," $direct)) }}
{{- end }}
{{- with concat $environment (default list .Values.extraEnv) }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* The fields of the pod spec for scheduling and networking. */}}
{{- define "keyturn.scheduling" -}}
{{- $pod := dict }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsPolicy" "dnsConfig" "hostNetwork" }}
{{- with get $.Values $field }}
{{- $_ := set $pod $field . }}
{{- end }}
{{- end }}
{{- $pullSecrets := default list .Values.imagePullSecrets }}
{{- range (.Values.global).imagePullSecrets }}
{{- $pullSecrets = append $pullSecrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $pullSecrets }}
{{- $_ := set $pod "imagePullSecrets" . }}
{{- end }}
{{- with default (.Values.global).priorityClassName .Values.priorityClassName }}
{{- $_ := set $pod "priorityClassName" . }}
{{- end }}
{{- if and .Values.hostNetwork (not .Values.dnsPolicy) }}
{{- $_ := set $pod "dnsPolicy" "ClusterFirstWithHostNet" }}
{{- end }}
{{- $release := dict "labelSelector" (dict "matchLabels" (include "keyturn.selectorLabels" . | fromYaml)) }}
{{- range .Values.topologySpreadConstraints }}
{{- $spread := get $pod "topologySpreadConstraints" | default list }}
{{- $_ := set $pod "topologySpreadConstraints" (append $spread (hasKey . "labelSelector" | ternary . (merge (deepCopy .) $release))) }}
{{- end }}
{{- if $pod }}
{{- toYaml $pod }}
{{- end }}
{{- end }}

{{- /* The rules of the operator's ClusterRole, or of its Role in each watched namespace. */}}
{{- define "keyturn.rules" -}}
- apiGroups: [keyturn.dev]
  resources: [tokenrequests]
  verbs: [get, list, watch]
- apiGroups: [keyturn.dev]
  resources: [tokenrequests/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, {{ if .Values.secrets.watch }}list, watch, {{ end }}create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]  # for caBundleFrom
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
# The Lease that keeps two installations from renewing in one namespace. RBAC cannot restrict the verb create to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [keyturn-scope]
  verbs: [get, patch]
{{- if .Values.rbac.serviceAccountTokens }}
- apiGroups: [""]
  resources: [serviceaccounts/token]
  {{- with .Values.rbac.serviceAccountTokenNames }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [create]
{{- end }}
{{- end }}

{{- define "keyturn.subjects" -}}
- kind: ServiceAccount
  name: {{ include "keyturn.serviceAccountName" . }}
  namespace: {{ include "keyturn.namespace" . }}
{{- end }}
