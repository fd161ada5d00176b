{{/* Whether the API server is to complete Pods that name a model: "true", or empty. */}}
{{- define "controller.podPolicy" -}}
{{- $served := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- if or (eq .Values.podPolicy.enabled "always") (and $served (eq .Values.podPolicy.enabled "auto")) }}true{{ end }}
{{- end }}

{{/* CEL for what a Pod, or the template of one, says in its annotations. `annotations` must be a variable before. */}}
{{- define "controller.podVariables" }}
    - name: model
      expression: variables.annotations[?'models.ome.io/model'].orValue('')
    # Models of other namespaces are not for this Pod.
    - name: namespaced
      expression: variables.model.startsWith(request.namespace + '/')
    - name: name
      expression: "variables.namespaced ? variables.model.substring(size(request.namespace) + 1) : variables.model"
    - name: label
      expression: >-
        (variables.namespaced ? request.namespace + '.basemodel.' : 'clusterbasemodel.') + variables.name
    # A label of a longer name ends in a hash, which CEL cannot calculate.
    - name: fits
      expression: size(variables.label) <= 63
    - name: named
      expression: variables.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')
    - name: required
      expression: variables.annotations[?'models.ome.io/placement'].orValue('') == 'required'
    - name: place
      expression: variables.annotations[?'models.ome.io/mount'].orValue('')
    - name: path
      expression: >-
        variables.annotations[?'models.ome.io/path'].orValue('{{ first (concat .Values.podPolicy.modelRoots (list "")) }}/'
        + (variables.namespaced ? 'basemodel/' : 'clusterbasemodel/') + variables.model)
    # What the API server would refuse in a Pod, or what is none of a model's files, is not written into it.
    - name: mountable
      expression: >-
        variables.place.matches('^/[^:\\pC]{1,512}$') && variables.path.matches('^/[^:\\pC]{1,512}$')
        && !variables.path.matches('(^|/)[.][.]?(/|$)')
        && {{ toJson .Values.podPolicy.modelRoots | replace "\"" "'" }}.exists(root, variables.path.startsWith(root + '/'))
        && !variables.path.matches('/[.]ome(/|$)')
{{- end }}
