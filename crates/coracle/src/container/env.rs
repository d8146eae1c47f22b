//! A container's environment: nothing of the host's, PATH and HOSTNAME, the image's variables,
//! then the pod's.

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

use super::expand::expand;
use super::{ImageProcess, PATH, PodFacts, ProcessError};

/// A container's environment, by where it comes from.
#[derive(Debug)]
pub(crate) struct Environment {
    base: Vec<(String, String)>,
    /// The pod's own variables, in order: the ones that `$(NAME)` may name.
    pub(crate) pod: Vec<(String, String)>,
}

impl Environment {
    /// All variables, each name once: where two set one name the later wins. `PWD` is added when
    /// the working directory is not `/`, since that is all that a Go guest has to learn it from.
    pub(crate) fn all(&self, cwd: &str) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let pwd = ("PWD".to_owned(), cwd.to_owned());
        let pwd = (cwd != "/").then_some(&pwd);
        for (name, value) in pwd.into_iter().chain(&self.base).chain(&self.pod) {
            match all.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1.clone_from(value),
                None => all.push((name.clone(), value.clone())),
            }
        }
        all
    }
}

/// Resolves the environment of a container.
///
/// # Errors
/// When a variable's `valueFrom` can't be resolved.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    image: &ImageProcess,
    facts: &PodFacts,
) -> Result<Environment, ProcessError> {
    let mut base = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), facts.hostname.clone()),
    ];
    base.extend(image.env.iter().cloned());
    let mut own: Vec<(String, String)> = Vec::new();
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, variable, &own, facts)? {
            own.push((variable.name.clone(), value));
        }
    }
    Ok(Environment { base, pod: own })
}

fn value(
    pod: &Pod,
    variable: &EnvVar,
    known: &[(String, String)],
    facts: &PodFacts,
) -> Result<Option<String>, ProcessError> {
    if let Some(source) = &variable.value_from {
        return from_source(pod, &variable.name, source, facts);
    }
    let lookup = |name: &str| {
        known
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    Ok(Some(expand(
        variable.value.as_deref().unwrap_or_default(),
        lookup,
    )))
}

fn from_source(
    pod: &Pod,
    name: &str,
    source: &EnvVarSource,
    facts: &PodFacts,
) -> Result<Option<String>, ProcessError> {
    if let Some(field) = &source.field_ref {
        return field_value(pod, &field.field_path, facts)
            .map(Some)
            .ok_or_else(|| ProcessError::Field {
                name: name.into(),
                path: field.field_path.clone(),
            });
    }
    let from = if source.config_map_key_ref.is_some() {
        "configMapKeyRef"
    } else if source.secret_key_ref.is_some() {
        "secretKeyRef"
    } else if source.resource_field_ref.is_some() {
        "resourceFieldRef"
    } else if source.file_key_ref.is_some() {
        "fileKeyRef"
    } else {
        return Ok(None);
    };
    Err(ProcessError::Source {
        name: name.into(),
        from,
    })
}

/// The fields of `podFieldSelectorRuntimeValue` (`pkg/kubelet/kubelet_pods.go`) and
/// `ExtractFieldPathAsString` (`pkg/fieldpath/fieldpath.go`).
fn field_value(pod: &Pod, path: &str, facts: &PodFacts) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let join = |ips: &[std::net::IpAddr]| {
        ips.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let first = |ips: &[std::net::IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Some(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "spec.nodeName" => spec.map(|s| text(&s.node_name)).unwrap_or_default(),
        "spec.serviceAccountName" => spec
            .map(|s| text(&s.service_account_name))
            .unwrap_or_default(),
        "status.podIP" => first(&facts.ips),
        "status.podIPs" => join(&facts.ips),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => join(&facts.host_ips),
        _ => {
            let (map, key) = subscript(path)?;
            let map = match map {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => return None,
            };
            map.and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default()
        }
    })
}

/// Splits `metadata.labels['app']` into its parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectFieldSelector;

    use super::*;

    fn var(name: &str, value: &str) -> EnvVar {
        EnvVar {
            name: name.into(),
            value: Some(value.into()),
            ..EnvVar::default()
        }
    }

    fn field(name: &str, path: &str) -> EnvVar {
        EnvVar {
            name: name.into(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: path.into(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }
    }

    fn resolve(env: Vec<EnvVar>) -> Result<Vec<(String, String)>, ProcessError> {
        let container = Container {
            env: Some(env),
            ..Container::default()
        };
        let image = ImageProcess {
            env: vec![("A".into(), "image".into())],
            ..ImageProcess::default()
        };
        let facts = PodFacts {
            ips: vec!["10.0.0.9".parse().unwrap()],
            host_ips: Vec::new(),
            hostname: "pod".into(),
        };
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        environment(&pod, &container, &image, &facts).map(|e| e.all("/"))
    }

    fn get<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
        env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn holds_only_what_a_container_gets() {
        let env = resolve(vec![]).unwrap();
        let names: Vec<&str> = env.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["PATH", "HOSTNAME", "A"]);
    }

    #[test]
    fn the_pod_wins_over_the_image_and_refers_to_earlier_variables_alone() {
        let env = resolve(vec![
            var("A", "pod"),
            var("B", "$(A)-$(C)"),
            var("C", "late"),
        ])
        .unwrap();
        assert_eq!(get(&env, "A"), Some("pod"));
        assert_eq!(get(&env, "B"), Some("pod-$(C)"));
    }

    #[test]
    fn fields_of_the_pod() {
        let env = resolve(vec![
            field("IP", "status.podIP"),
            field("APP", "metadata.labels['app']"),
            field("NONE", "metadata.annotations['x']"),
        ])
        .unwrap();
        assert_eq!(get(&env, "IP"), Some("10.0.0.9"));
        assert_eq!(get(&env, "APP"), Some("web"));
        assert_eq!(get(&env, "NONE"), Some(""));
        let error = resolve(vec![field("X", "spec.secret")]).unwrap_err();
        assert!(error.to_string().contains("spec.secret"));
    }
}
