//! What nodes write to the API server, by its audit log.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::poll;

const FILE: &str = "audit.log";

/// How long a write that was seen may take to be noted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes of nodes and of KWOK alone, once each: when it was answered.
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:nodes"]
  verbs: [create, update, patch, delete]
- level: Metadata
  users: [kwok]
  verbs: [create, update, patch, delete]
- level: None
"#;

/// Makes an API server keep the log in `dir`.
pub(crate) fn ask(server: &mut Command, dir: &Path) -> Result<()> {
    let policy = dir.join("audit-policy.yaml");
    std::fs::write(&policy, POLICY)?;
    server.arg("--audit-policy-file").arg(policy);
    server.arg("--audit-log-path").arg(dir.join(FILE));
    // Megabytes of one file; another would take its place in the middle of a count.
    server.args(["--audit-log-maxsize", "4096"]);
    Ok(())
}

/// One write that the API server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Whose: `system:node:NAME` of a node.
    pub user: String,
    /// `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// What was written, with its subresource: `pods`, `pods/status`, `events`, `leases`.
    pub resource: String,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// The object's name; empty if the server was to choose it.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u64,
}

/// The audit log, from where it was last read.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    read: u64,
}

impl Audit {
    pub(crate) fn from_now(dir: &Path) -> Audit {
        let path = dir.join(FILE);
        // The first write makes it.
        let read = std::fs::metadata(&path).map_or(0, |known| known.len());
        Audit { path, read }
    }

    /// The writes that were answered since this was last asked, in their order.
    ///
    /// # Errors
    /// If the log can't be read, or is none.
    pub fn written(&mut self) -> Result<Vec<Write>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // The last line may be half written.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(whole.map_or(0, |end| end + 1));
        self.read += u64::try_from(bytes.len())?;
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines.map(write).collect()
    }

    /// The writes that were answered since it was last asked, once they are as expected: a write is noted after it was
    /// answered, and so after whoever watches has seen it.
    ///
    /// # Errors
    /// As [`Audit::written`], or with what was written if that is not as expected after a minute.
    pub async fn until(&mut self, expected: impl Fn(&[Write]) -> bool) -> Result<Vec<Write>> {
        let mut all = Vec::new();
        let seen = poll(PATIENCE, || {
            let answer = match self.written() {
                Err(error) => Some(Err(error)),
                Ok(new) => {
                    all.extend(new);
                    expected(&all).then_some(Ok(()))
                }
            };
            std::future::ready(answer)
        })
        .await;
        match seen {
            Some(seen) => seen.map(|()| all),
            None => bail!("after {PATIENCE:?} there was written: {all:?}"),
        }
    }
}

fn write(line: &[u8]) -> Result<Write> {
    let event: Value = serde_json::from_slice(line).context("the audit log has a bad line")?;
    let text = |path: &str| {
        let text = event.pointer(path).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut resource = text("/objectRef/resource");
    let subresource = text("/objectRef/subresource");
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    Ok(Write {
        user: text("/user/username"),
        verb: text("/verb"),
        resource,
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        code: event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn whole_lines_are_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let line = r#"{"user":{"username":"system:node:a"},"verb":"patch","objectRef":{"resource":"pods","subresource":"status","namespace":"n","name":"p"},"responseStatus":{"code":200}}"#;
        assert!(Audit::from_now(dir.path()).written().unwrap().is_empty());
        std::fs::write(&path, "old\n").unwrap();
        let mut audit = Audit::from_now(dir.path());
        std::fs::write(&path, format!("old\n{line}\n{{\"user\"")).unwrap();
        let writes = audit.written().unwrap();
        assert_eq!(writes.len(), 1);
        let told = (writes[0].resource.as_str(), writes[0].code);
        assert_eq!(told, ("pods/status", 200));
        assert!(audit.written().unwrap().is_empty());
        std::fs::write(&path, format!("old\n{line}\n{line}\n")).unwrap();
        assert_eq!(audit.written().unwrap(), writes);
    }
}
