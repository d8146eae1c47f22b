#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn description(address: &str) -> NodeDescription {
    let amounts = Amounts {
        cpu_milli: 2000,
        memory: 1 << 30,
        pods: 500,
        ephemeral_storage: 1 << 33,
    };
    NodeDescription {
        name: "wasm-1".into(),
        version: "0.1.0".into(),
        labels: BTreeMap::from([("zone".into(), "a".into()), (ARCH.into(), "amd64".into())]),
        taints: Vec::new(),
        provider_id: None,
        capacity: amounts,
        allocatable: amounts,
        addresses: vec![NodeAddress {
            type_: "InternalIP".into(),
            address: address.into(),
        }],
        declared_features: Vec::new(),
        port: None,
        machine: Machine::default(),
        mark: "mark".into(),
    }
}

#[test]
fn a_node_is_created_with_its_taint_and_its_own_labels() {
    let node = description("10.0.0.1").node(&Health::default(), at(0));
    assert_eq!(node.spec.unwrap().taints.unwrap(), [taint()]);
    let labels = node.metadata.labels.unwrap();
    for label in [
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ] {
        assert_eq!(
            labels[label], WASM,
            "configuration can't make it a node for Linux pods"
        );
    }
    assert_eq!(
        (
            labels["zone"].as_str(),
            labels["kubernetes.io/hostname"].as_str()
        ),
        ("a", "wasm-1")
    );
}

#[test]
fn conditions_stand_in_order_ready_last() {
    let health = Health {
        disk_pressure: Some("full".into()),
        ..Default::default()
    };
    let conditions = description("10.0.0.1")
        .status(&health, None, at(1))
        .conditions
        .unwrap();
    let said: Vec<(&str, &str)> = conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str()))
        .collect();
    let expected = [
        ("MemoryPressure", "False"),
        ("DiskPressure", "True"),
        ("PIDPressure", "False"),
        ("Ready", "True"),
    ];
    assert_eq!(said, expected);
    assert_eq!(
        conditions[3].message.as_deref(),
        Some("kubelet is posting ready status")
    );
}

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let description = description("10.0.0.1");
    let node = description.node(&Health::default(), at(1));
    let ready = |status: NodeStatus| status.conditions.unwrap()[3].clone();
    let same = description.status(&Health::default(), Some(&node), at(9));
    assert!(says_the_same(&same, node.status.as_ref().unwrap()));
    let same = ready(same);
    assert_eq!(
        (same.last_transition_time, same.last_heartbeat_time),
        (Some(Time(at(1))), Some(Time(at(9))))
    );
    let broken = Health {
        not_ready: Some("no guest host".into()),
        ..Default::default()
    };
    let turned = description.status(&broken, Some(&node), at(9));
    assert!(!says_the_same(&turned, node.status.as_ref().unwrap()));
    assert_eq!(ready(turned).last_transition_time, Some(Time(at(9))));
}

#[test]
fn a_missing_taint_is_told_with_the_command() {
    let description = description("10.0.0.1");
    let mut node = description.node(&Health::default(), at(1));
    assert_eq!(description.missing_taints(&node), []);
    node.spec.as_mut().unwrap().taints = Some(vec![Taint {
        effect: "NoExecute".into(),
        ..taint()
    }]);
    let missing = description.missing_taints(&node);
    assert_eq!(missing, [taint()]);
    let message = missing_taints_message("wasm-1", &missing);
    assert!(
        message
            .ends_with("run: kubectl taint nodes wasm-1 kubernetes.io/arch=wasm32-wasi:NoSchedule"),
        "{message}"
    );
}

#[test]
fn what_no_cluster_can_use_is_refused() {
    assert_eq!(description("10.0.0.1").check(), Ok(()));
    let loopback = "127.0.0.1".parse().unwrap();
    assert_eq!(
        description("127.0.0.1").check(),
        Err(DescriptionError::Loopback(loopback))
    );
    assert_eq!(
        description("a-name").check(),
        Err(DescriptionError::NoAddress)
    );
    let long = "a".repeat(254);
    for name in ["", "Upper", "a_b", "-a", "a-", "a..b", &long] {
        let description = NodeDescription {
            name: name.into(),
            ..description("10.0.0.1")
        };
        assert_eq!(
            description.check(),
            Err(DescriptionError::Name(name.into()))
        );
    }
}

#[test]
fn addresses_are_replaced_in_the_patch() {
    let status = description("10.0.0.1").status(&Health::default(), None, at(1));
    let patch = status_patch(&status);
    assert_eq!(
        patch["status"]["addresses"][0],
        json!({ "$patch": "replace" })
    );
    assert_eq!(patch["status"]["capacity"]["cpu"], json!("2000m"));
    assert_eq!(
        patch["status"]["nodeInfo"]["kubeletVersion"],
        json!("v1.36.0-coracle.0.1.0")
    );
}

#[test]
fn features_are_sorted_and_images_bounded() {
    let mut node = description("10.0.0.1");
    let status = |node: &NodeDescription, health: &Health| node.status(health, None, at(0));
    assert_eq!(status(&node, &Health::default()).declared_features, None);
    node.declared_features = ["B", "A", "B"].map(str::to_owned).into();
    let image = ContainerImage {
        names: Some(vec!["name".to_owned(); 9]),
        size_bytes: Some(1),
    };
    let health = Health {
        images: vec![image; 70],
        ..Health::default()
    };
    let status = status(&node, &health);
    assert_eq!(status.declared_features.unwrap(), ["A", "B"]);
    let images = status.images.unwrap();
    assert_eq!(
        (images.len(), images[0].names.as_ref().unwrap().len()),
        (50, 5)
    );
    assert_eq!(status.runtime_handlers.unwrap().len(), 2);
}

#[test]
fn a_node_that_lives_elsewhere_is_another_s() {
    let of = |machine: &str, not_ready: Option<&str>| {
        let mut description = description("10.0.0.1");
        description.machine.machine_id = machine.into();
        let health = Health {
            not_ready: not_ready.map(str::to_owned),
            ..Health::default()
        };
        (description.node(&health, at(0)), description)
    };
    let (theirs, _) = of("m1", None);
    let (dead, ours) = of("m1", Some("gone"));
    assert_eq!(ours.others(&theirs), None, "this machine's own");
    let (_, other) = of("m2", None);
    let refused = other.others(&theirs).unwrap();
    assert!(
        refused.contains("m1") && refused.contains("--node-name"),
        "{refused}"
    );
    assert_eq!(other.others(&dead), None, "left behind");
    let mut kubelet = theirs.clone();
    let info = kubelet.status.as_mut().unwrap().node_info.as_mut().unwrap();
    info.container_runtime_version = "containerd://2.1.0".into();
    let refused = ours.others(&kubelet).unwrap();
    assert!(refused.contains("containerd://2.1.0"), "{refused}");
}

#[test]
fn another_boot_id_is_a_reboot() {
    let mut description = description("10.0.0.1");
    description.machine.boot_id = "one".into();
    let mut node = description.node(&Health::default(), at(0));
    assert!(!description.rebooted(&node));
    description.machine.boot_id = "two".into();
    assert!(description.rebooted(&node));
    node.status.as_mut().unwrap().node_info = None;
    assert!(!description.rebooted(&node), "never told");
    assert!(!description.rebooted(&Node::default()));
}
