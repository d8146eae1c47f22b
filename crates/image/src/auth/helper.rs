//! `docker-credential-NAME get`: the server's name on its standard input, JSON on its standard output.
//! The protocol is that of docker-credential-helpers (`client/command.go`, `credentials/error.go`).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::credentials::Credentials;
use crate::error::Error;

/// How long a helper may take: it may ask a person to unlock a keychain.
const PATIENCE: Duration = Duration::from_secs(30);
const OUTPUT_MAX: u64 = 1 << 20;
/// How much of a failed helper's words are shown, in characters.
const WORDS_MAX: usize = 200;
/// What every helper says of a server that it does not know.
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks the helper that `file` names. `None` where it knows nothing of `server`.
pub(super) async fn get(
    file: &Path,
    name: &str,
    server: &str,
) -> Result<Option<Credentials>, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) {
        return Err(Error::Credentials {
            source_name: file.display().to_string(),
            reason:
                "what stands for the name of a helper is none: letters, digits, '-', '_' and '.'"
                    .to_owned(),
        });
    }
    let program = format!("docker-credential-{name}");
    run(file, Path::new(&program), server, PATIENCE).await
}

/// As [`get`], by the program itself.
pub(super) async fn run(
    file: &Path,
    program: &Path,
    server: &str,
    patience: Duration,
) -> Result<Option<Credentials>, Error> {
    let wrong = |reason: String| Error::Credentials {
        source_name: format!("{} (named by {})", program.display(), file.display()),
        reason: format!("asked for {server}, {reason}"),
    };
    // Dropped, the child is killed: also when the pull is given up.
    let asked = tokio::time::timeout(patience, talk(program, server));
    let (ended, out, err) = match asked.await {
        Err(_) => return Err(wrong(format!("it gave no answer within {patience:?}"))),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(wrong(
                "it is not there: install it, or remove it from the file".to_owned(),
            ));
        }
        Ok(Err(e)) => return Err(wrong(e.to_string())),
        Ok(Ok(said)) => said,
    };
    if out.len() as u64 > OUTPUT_MAX {
        return Err(wrong(format!("it said more than {OUTPUT_MAX} bytes")));
    }
    if !ended.success() {
        // By the protocol a failure is told on standard output, where no secret is then.
        let words = format!("{} {}", shown(&out), shown(&err));
        if words.contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(wrong(format!("it failed ({ended}): {}", words.trim())));
    }
    let answer: Answer = serde_json::from_slice(&out)
        .map_err(|_| wrong("it gave no JSON with Username and Secret".to_owned()))?;
    Ok(match (answer.username.as_str(), answer.secret.as_str()) {
        (_, "") => None,
        ("<token>", _) => Some(Credentials::Identity(answer.secret)),
        _ => Some(Credentials::Basic(answer.username, answer.secret)),
    })
}

type Said = (std::process::ExitStatus, Vec<u8>, Vec<u8>);

async fn talk(program: &Path, server: &str) -> std::io::Result<Said> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(format!("{server}\n").as_bytes()).await {
            // One that answers without asking is its own affair.
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(e),
            _ => {}
        }
    }
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = tokio::try_join!(bounded(out), bounded(err))?;
    if out.len() as u64 > OUTPUT_MAX {
        child.start_kill()?;
    }
    Ok((child.wait().await?, out, err))
}

async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_MAX + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.trim().chars().filter(|c| !c.is_control());
    words.take(WORDS_MAX).collect()
}
