//! Whose a node's lease is. Every agent writes its mark, which belongs to its root folder, so that two agents of one name
//! are told apart wherever they are: the one that finds the other's mark on a lease that still holds leaves it alone.
//! Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;

/// The annotation of the lease that holds the mark.
const MARK: &str = "coracle.dev/agent";

/// Why the lease is another agent's that lives, in a sentence. One whose time is over was left behind, whoever's it was,
/// and one that bears no mark is of a version that wrote none, or a kubelet's: a Node is looked at for that.
pub(crate) fn rival(lease: &Lease, mark: &str, now: Timestamp) -> Option<String> {
    let annotations = lease.metadata.annotations.as_ref()?;
    let theirs = annotations
        .get(MARK)
        .filter(|theirs| theirs.as_str() != mark)?;
    let spec = lease.spec.as_ref()?;
    let renewed = spec.renew_time.as_ref()?.0;
    let holds = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds?));
    let ends = renewed.checked_add(holds).ok()?;
    let name = lease.metadata.name.as_deref().unwrap_or_default();
    (now < ends).then(|| {
        format!(
            "the Node {name} belongs to another coracle node, which lives: it has another root folder (its mark is \
             {theirs}, this one's {mark}) and its lease was renewed at {renewed:.0}; end it, or choose another --node-name"
        )
    })
}

/// Writes the mark.
pub(crate) fn sign(lease: &mut Lease, mark: &str) {
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(MARK.to_owned(), mark.to_owned());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn renewed(seconds: i64) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.name = Some("wasm-1".into());
        lease.spec = Some(LeaseSpec {
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(at(seconds))),
            ..LeaseSpec::default()
        });
        lease
    }

    #[test]
    fn another_mark_counts_as_long_as_the_lease_holds() {
        let mut lease = renewed(1000);
        assert_eq!(rival(&lease, "one", at(1001)), None, "no mark");
        sign(&mut lease, "one");
        assert_eq!(rival(&lease, "one", at(1001)), None, "its own");
        let told = rival(&lease, "two", at(1039)).unwrap();
        assert!(
            told.contains("wasm-1") && told.contains("--node-name"),
            "{told}"
        );
        assert_eq!(rival(&lease, "two", at(1040)), None, "its time is over");
        sign(&mut lease, "two");
        assert_eq!(rival(&lease, "two", at(1001)), None);
        assert!(rival(&lease, "one", at(1001)).is_some());
        lease.spec = None;
        assert_eq!(rival(&lease, "one", at(1001)), None, "never renewed");
    }
}
