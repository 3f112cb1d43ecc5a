{{- /* "true" if injection is enabled. Fails if the cluster has no MutatingAdmissionPolicy v1: otherwise pods would start
without a sidecar, and nothing would say why. */}}
{{- define "keyturn.injectionEnabled" -}}
{{- if (.Values.injection).enabled }}
{{- $served := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- if not (or $served (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version)) }}
{{- $remedy := "use `keyturn inject` on an older cluster; `helm template` must pass --kube-version=1.36 for a newer one" }}
{{- fail (printf "injection.enabled requires Kubernetes 1.36, and this is %s: %s" .Capabilities.KubeVersion.Version $remedy) }}
{{- end }}true
{{- end }}
{{- end }}

{{- /* The sidecar container; `keyturn inject` adds the same one. */}}
{{- define "keyturn.sidecar" -}}
{{- $probes := add .Values.injection.port 1 }}
name: keyturn
{{- $image := printf "%s-sidecar:%s" (include "keyturn.imageRepository" .) (include "keyturn.imageTag" .) }}
image: {{ default $image .Values.injection.image | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
restartPolicy: Always
args:
  - sidecar
  - --secret-dir=/var/run/secrets/keyturn.dev/secret
  - --listen=127.0.0.1:{{ .Values.injection.port }}
  - --http-bind-address=:{{ $probes }}
  - --authorization-file=/var/run/secrets/keyturn.dev/authorization/token
  - --authorization-file-mode=0444
ports:
  - {name: keyturn, containerPort: {{ $probes }}}
startupProbe:
  httpGet: {path: /readyz, port: {{ $probes }}}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: {{ $probes }}}
  timeoutSeconds: 5
  failureThreshold: 6
resources: {{ toJson .Values.injection.resources }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: keyturn-secret, mountPath: /var/run/secrets/keyturn.dev/secret, readOnly: true}
  - {name: keyturn-authorization, mountPath: /var/run/secrets/keyturn.dev/authorization}
  # Kubernetes does not mount the service account token over an existing mount.
  - {name: keyturn-no-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{- /* The mount and the variables to add to each container, and the emptyDir settings for the files of the sidecar. */}}
{{- define "keyturn.endpoint" -}}
mount: {name: keyturn-authorization, mountPath: /var/run/secrets/keyturn.dev/authorization, readOnly: true}
uri: {name: AWS_CONTAINER_CREDENTIALS_FULL_URI, value: "http://127.0.0.1:{{ .Values.injection.port }}/"}
token:
  name: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
  value: /var/run/secrets/keyturn.dev/authorization/token
memory: {medium: Memory, sizeLimit: 1Mi}
{{- end }}

{{- /* A value as a CEL literal. Members are wrapped in dyn() because CEL lists and maps have one element type. */}}
{{- define "keyturn.cel" -}}
{{- if kindIs "map" . }}
{{- $members := list }}
{{- range $key, $value := . }}
{{- $members = append $members (printf "%s: dyn(%s)" (toJson $key) (include "keyturn.cel" $value)) }}
{{- end }}
{{- printf "{%s}" (join ", " $members) }}
{{- else if kindIs "slice" . }}
{{- $members := list }}
{{- range . }}
{{- $members = append $members (printf "dyn(%s)" (include "keyturn.cel" .)) }}
{{- end }}
{{- printf "[%s]" (join ", " $members) }}
{{- else }}
{{- toJson . }}
{{- end }}
{{- end }}

{{- /* The namespace selector, restricted to watchNamespaces if set. */}}
{{- define "keyturn.injectedNamespaces" -}}
{{- $selector := deepCopy (default dict .Values.injection.namespaceSelector) }}
{{- with .Values.watchNamespaces }}
{{- $scoped := dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" . }}
{{- $_ := set $selector "matchExpressions" (append (default list $selector.matchExpressions) $scoped) }}
{{- end }}
{{- toYaml $selector }}
{{- end }}

{{- /* The match conditions and the variables that the policies share. */}}
{{- define "keyturn.injectionMatch" -}}
failurePolicy: Fail
matchConstraints:
  namespaceSelector:
    {{- include "keyturn.injectedNamespaces" . | nindent 4 }}
  resourceRules:
    - apiGroups: [""]
      apiVersions: [v1]
      resources: [pods]
      operations: [CREATE]
matchConditions:
  - name: has-inject-annotation
    expression: has(object.metadata.annotations) && 'keyturn.dev/inject' in object.metadata.annotations
variables:
  - name: secret
    expression: object.metadata.annotations['keyturn.dev/inject']
  - name: isSecretName
    expression: >-
      size(variables.secret) <= 253 &&
      variables.secret.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')
  - name: credentialVariables
    expression: >-
      ['AWS_ACCESS_KEY_ID', 'AWS_PROFILE', 'AWS_DEFAULT_PROFILE', 'AWS_SHARED_CREDENTIALS_FILE',
      'AWS_WEB_IDENTITY_TOKEN_FILE', 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', 'AWS_CONTAINER_AUTHORIZATION_TOKEN',
      'AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']
  - name: inits
    expression: "has(object.spec.initContainers) ? object.spec.initContainers : []"
{{- end }}
