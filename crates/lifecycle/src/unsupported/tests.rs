#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn pod(spec: &str) -> Pod {
    serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap()
}

fn of_container(more: &str) -> Pod {
    pod(&format!(
        r#"{{"containers":[{{"name":"a","image":"i",{more}}}],"volumes":[{{"name":"v"}}]}}"#
    ))
}

fn of_pod(more: &str) -> Pod {
    pod(&format!(
        r#"{{"containers":[{{"name":"a","image":"i"}}],{more}}}"#
    ))
}

#[test]
fn each_field_is_named() {
    let c = "spec.containers[0]";
    let cases = [
        (of_pod(r#""hostPID":true"#), "spec.hostPID".to_owned()),
        (of_pod(r#""hostIPC":true"#), "spec.hostIPC".into()),
        (
            of_pod(r#""shareProcessNamespace":true"#),
            "spec.shareProcessNamespace".into(),
        ),
        (of_pod(r#""os":{"name":"linux"}"#), "spec.os.name".into()),
        (
            of_pod(r#""resourceClaims":[{"name":"gpu"}]"#),
            "spec.resourceClaims".into(),
        ),
        (
            of_pod(r#""ephemeralContainers":[{"name":"d","ports":[{"containerPort":1}]}]"#),
            "spec.ephemeralContainers[0].ports".into(),
        ),
        (
            of_pod(r#""ephemeralContainers":[{"name":"d","resources":{"limits":{"cpu":"1"}}}]"#),
            "spec.ephemeralContainers[0].resources".into(),
        ),
        (
            of_pod(
                r#""ephemeralContainers":[{"name":"d","volumeDevices":[{"name":"v","devicePath":"/d"}]}]"#,
            ),
            "spec.ephemeralContainers[0].volumeDevices".into(),
        ),
        (
            of_pod(r#""ephemeralContainers":[{"name":"a"}]"#),
            "spec.containers[].name".into(),
        ),
        (
            of_pod(r#""securityContext":{"sysctls":[{"name":"x","value":"1"}]}"#),
            "spec.securityContext.sysctls".into(),
        ),
        (
            of_pod(r#""resources":{"limits":{"cpu":"1"}}"#),
            "spec.resources.limits".into(),
        ),
        (
            of_pod(r#""restartPolicy":"Sometimes""#),
            "spec.restartPolicy".into(),
        ),
        (
            of_pod(r#""overhead":{"cpu":"much"}"#),
            "spec.overhead[cpu]".into(),
        ),
        (
            of_pod(r#""initContainers":[{"name":"a"}]"#),
            "spec.containers[].name".into(),
        ),
        (
            of_pod(r#""initContainers":[{"name":"b","readinessProbe":{}}]"#),
            "spec.initContainers[0].readinessProbe".into(),
        ),
        (pod(r#"{"containers":[]}"#), "spec.containers".into()),
        (Pod::default(), "spec".into()),
        (
            of_container(r#""livenessProbe":{"exec":{},"tcpSocket":{"port":1}}"#),
            format!("{c}.livenessProbe"),
        ),
        (
            of_container(r#""startupProbe":{"successThreshold":2}"#),
            format!("{c}.startupProbe.successThreshold"),
        ),
        (
            of_container(r#""lifecycle":{"preStop":{"httpGet":{"port":"web"}}}"#),
            format!("{c}.lifecycle.preStop.port"),
        ),
        (
            of_container(r#""readinessProbe":{"terminationGracePeriodSeconds":3}"#),
            format!("{c}.readinessProbe.terminationGracePeriodSeconds"),
        ),
        (
            of_container(r#""lifecycle":{"stopSignal":"SIGUSR1"}"#),
            format!("{c}.lifecycle.stopSignal"),
        ),
        (
            of_container(
                r#""env":[{"name":"X","valueFrom":{"fileKeyRef":{"key":"k","path":"p","volumeName":"v"}}}]"#,
            ),
            format!("{c}.env[0].valueFrom.fileKeyRef"),
        ),
        (
            of_container(r#""volumeDevices":[{"name":"v","devicePath":"/d"}]"#),
            format!("{c}.volumeDevices"),
        ),
        (
            of_container(r#""volumeMounts":[{"name":"w","mountPath":"/w"}]"#),
            format!("{c}.volumeMounts[0].name"),
        ),
        (
            of_container(
                r#""volumeMounts":[{"name":"v","mountPath":"/w","mountPropagation":"Bidirectional"}]"#,
            ),
            format!("{c}.volumeMounts[0].mountPropagation"),
        ),
        (
            of_container(r#""securityContext":{"procMount":"Unmasked"}"#),
            format!("{c}.securityContext.procMount"),
        ),
        (
            of_container(r#""resources":{"limits":{"nvidia.com/gpu":"1"}}"#),
            format!("{c}.resources.limits[nvidia.com/gpu]"),
        ),
        (
            of_container(r#""resources":{"requests":{"cpu":"a lot"}}"#),
            format!("{c}.resources.requests[cpu]"),
        ),
        (
            pod(
                r#"{"hostNetwork":true,"containers":[{"name":"a","image":"i","ports":[{"containerPort":80,"hostPort":8080}]}]}"#,
            ),
            format!("{c}.ports[0].hostPort"),
        ),
        (
            of_container(r#""restartPolicy":"Perhaps""#),
            format!("{c}.restartPolicy"),
        ),
        (
            of_container(
                r#""restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In"}}]"#,
            ),
            format!("{c}.restartPolicy"),
        ),
        (
            of_container(
                r#""restartPolicy":"Never","restartPolicyRules":[{"action":"Terminate","exitCodes":{"operator":"In"}}]"#,
            ),
            format!("{c}.restartPolicyRules[0].action"),
        ),
        (
            of_container(r#""restartPolicy":"Never","restartPolicyRules":[{"action":"Restart"}]"#),
            format!("{c}.restartPolicyRules[0].exitCodes"),
        ),
        (
            of_container(
                r#""restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"Like"}}]"#,
            ),
            format!("{c}.restartPolicyRules[0].exitCodes.operator"),
        ),
        (
            of_container(
                r#""resizePolicy":[{"resourceName":"gpu","restartPolicy":"NotRequired"}]"#,
            ),
            format!("{c}.resizePolicy[0].resourceName"),
        ),
        (
            of_container(r#""resizePolicy":[{"resourceName":"cpu","restartPolicy":"Now"}]"#),
            format!("{c}.resizePolicy[0].restartPolicy"),
        ),
        (
            of_pod(r#""volumes":[{"name":"v","nfs":{"path":"/p","server":"s"}}]"#),
            "spec.volumes[0].nfs".into(),
        ),
        (
            of_pod(r#""volumes":[{"name":"v","emptyDir":{"medium":"HugePages"}}]"#),
            "spec.volumes[0].emptyDir.medium".into(),
        ),
        (
            of_pod(
                r#""volumes":[{"name":"v","projected":{"sources":[{"configMap":{"name":"m"}},{"podCertificate":{"keyType":"ED25519","signerName":"s"}}]}}]"#,
            ),
            "spec.volumes[0].projected.sources[1].podCertificate".into(),
        ),
        (
            of_pod(r#""volumes":[{"name":"v","hostPath":{"path":"/d","type":"Socket"}}]"#),
            "spec.volumes[0].hostPath.type".into(),
        ),
    ];
    for (pod, field) in cases {
        let found = unsupported(&pod);
        let fields: Vec<&str> = found.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, [field.as_str()], "{pod:?}");
        assert!(!found[0].value.is_empty() && !found[0].help.is_empty());
    }
}

#[test]
fn the_numbers_of_a_probe_are_those_that_the_api_server_takes() {
    for (probe, is) in [
        (r#"livenessProbe":{"initialDelaySeconds":0"#, true),
        (
            r#"livenessProbe":{"timeoutSeconds":0,"periodSeconds":0"#,
            true,
        ),
        (
            r#"livenessProbe":{"successThreshold":0,"failureThreshold":0"#,
            true,
        ),
        (r#"livenessProbe":{"initialDelaySeconds":-1"#, false),
        (r#"livenessProbe":{"timeoutSeconds":-1"#, false),
        (r#"livenessProbe":{"periodSeconds":-1"#, false),
        (r#"livenessProbe":{"failureThreshold":-1"#, false),
        (r#"livenessProbe":{"successThreshold":1"#, true),
        (r#"livenessProbe":{"successThreshold":2"#, false),
        (r#"readinessProbe":{"successThreshold":2"#, true),
        (r#"livenessProbe":{"terminationGracePeriodSeconds":1"#, true),
        (
            r#"livenessProbe":{"terminationGracePeriodSeconds":0"#,
            false,
        ),
    ] {
        let pod = of_container(&format!(r#""{probe},"tcpSocket":{{"port":1}}}}"#));
        assert_eq!(unsupported(&pod).is_empty(), is, "{probe}");
    }
}

#[test]
fn a_probe_names_a_port_of_its_container_or_a_number() {
    for (port, is) in [
        (r#""web""#, true),
        (r#""8081""#, true),
        ("8081", true),
        (r#""admin""#, false),
        (r#""65536""#, false),
    ] {
        let pod = of_container(&format!(
            r#""ports":[{{"name":"web","containerPort":8080}}],"livenessProbe":{{"httpGet":{{"port":{port}}}}}"#
        ));
        assert_eq!(unsupported(&pod).is_empty(), is, "{port}");
    }
}

#[test]
fn what_is_harmless_is_accepted() {
    let restricted = r#"{
        "securityContext":{"runAsNonRoot":true,"runAsUser":1000,"fsGroup":2000,
            "seccompProfile":{"type":"RuntimeDefault"},"seLinuxOptions":{"level":"s0"}},
        "automountServiceAccountToken":false,"restartPolicy":"OnFailure","hostNetwork":true,
        "volumes":[{"name":"v","emptyDir":{}},{"name":"h","hostPath":{"path":"/d"}},{"name":"n"},
            {"name":"m","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},{"name":"c","configMap":{"name":"c"}},
            {"name":"s","secret":{"secretName":"s"}},{"name":"d","downwardAPI":{"items":[]}},
            {"name":"p","projected":{"sources":[{"configMap":{"name":"c"}},{"secret":{"name":"s"}},{"downwardAPI":{}}]}}],
        "hostname":"h","subdomain":"s","setHostnameAsFQDN":true,
        "containers":[{"name":"a","image":"i","terminationMessagePath":"/end",
            "terminationMessagePolicy":"FallbackToLogsOnError",
            "env":[{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},
                {"name":"C","valueFrom":{"configMapKeyRef":{"name":"c","key":"k"}}},
                {"name":"S","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}},
                {"name":"R","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}}],
            "envFrom":[{"configMapRef":{"name":"c"},"prefix":"X_"},{"secretRef":{"name":"s"}}],
            "ports":[{"containerPort":80}],"stdin":true,"tty":true,
            "volumeMounts":[{"name":"v","mountPath":"/v"},{"name":"h","mountPath":"/h","readOnly":true},
                {"name":"v","mountPath":"/s","subPath":"a"},{"name":"v","mountPath":"/e","subPathExpr":"$(N)"}],
            "resources":{"limits":{"cpu":"1","memory":"1Gi"}},
            "securityContext":{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"capabilities":{"drop":["ALL"]},
                "appArmorProfile":{"type":"RuntimeDefault"}}}]}"#;
    let pod = pod(restricted);
    assert_eq!(unsupported(&pod), []);
    assert_eq!(ineffective(&pod), Vec::<String>::new());
    assert_eq!(refusal(&pod), None);
}

#[test]
fn privileges_are_accepted_with_a_word() {
    let pod = of_container(
        r#""securityContext":{"privileged":true,"capabilities":{"add":["NET_ADMIN"]}}"#,
    );
    assert_eq!(unsupported(&pod), []);
    let told = ineffective(&pod);
    assert!(
        told[0].contains("privileged") && told[1].contains("NET_ADMIN"),
        "{told:?}"
    );
}

#[test]
fn the_token_volume_is_refused_with_what_to_do() {
    let pod = of_pod(
        r#""volumes":[{"name":"kube-api-access-x","projected":{"sources":[{"serviceAccountToken":{"path":"token"}}]}}]"#,
    );
    let (reason, message) = refusal(&pod).unwrap();
    assert_eq!(reason, "PodFeatureUnsupported");
    assert!(
        message.contains("spec.volumes[0].projected.sources[0].serviceAccountToken"),
        "{message}"
    );
    assert!(
        message.contains("automountServiceAccountToken: false"),
        "{message}"
    );
}

#[test]
fn an_os_has_the_kubelets_reason_and_a_long_list_is_cut() {
    let (reason, _) = refusal(&of_pod(r#""os":{"name":"windows"}"#)).unwrap();
    assert_eq!(reason, "PodOSNotSupported");
    let of_so_many = |count: usize| {
        let one =
            |n| format!(r#"{{"name":"c{n}","volumeDevices":[{{"name":"d","devicePath":"/d"}}]}}"#);
        let containers: Vec<String> = (0..count).map(one).collect();
        let all = format!(r#"{{"containers":[{}]}}"#, containers.join(","));
        refusal(&pod(&all)).unwrap().1
    };
    let message = of_so_many(9);
    assert!(message.ends_with("; and 4 more fields"), "{message}");
    assert!(!of_so_many(5).contains("more fields"));
}

#[test]
fn an_ephemeral_container_has_nothing_that_is_relied_on() {
    let of = |more: &str| {
        let pod = of_pod(&format!(
            r#""ephemeralContainers":[{{"name":"d","image":"i",{more}}}],"volumes":[{{"name":"v"}}]"#
        ));
        let found = unsupported(&pod).into_iter();
        found.map(|one| one.field).collect::<Vec<_>>()
    };
    let probe = r#"{"exec":{"command":["x"]}}"#;
    let mount = |path: &str| format!(r#""volumeMounts":[{{"name":"v","mountPath":"/v",{path}}}]"#);
    for (name, value) in [
        ("ports", r#"[{"containerPort":1}]"#),
        ("livenessProbe", probe),
        ("readinessProbe", probe),
        ("startupProbe", probe),
        ("lifecycle", "{}"),
        ("resources", r#"{"requests":{"memory":"1"}}"#),
        (
            "resizePolicy",
            r#"[{"resourceName":"cpu","restartPolicy":"NotRequired"}]"#,
        ),
        ("restartPolicy", r#""Never""#),
    ] {
        let found = of(&format!(r#""{name}":{value}"#));
        assert_eq!(found, [format!("spec.ephemeralContainers[0].{name}")]);
    }
    for name in ["subPath", "subPathExpr"] {
        let field = format!("spec.ephemeralContainers[0].volumeMounts[0].{name}");
        assert_eq!(of(&mount(&format!(r#""{name}":"a""#))), [field]);
        assert_eq!(of(&mount(&format!(r#""{name}":"""#))), [""; 0]);
    }
    let nothing = r#""ports":[],"resizePolicy":[],"restartPolicyRules":[],"resources":{}"#;
    assert_eq!(of(nothing), [""; 0]);
}
