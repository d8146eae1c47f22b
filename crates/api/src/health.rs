//! `/healthz` and its named checks, as `apiserver/pkg/server/healthz` answers.

use std::fmt::Write;

use http::StatusCode;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// All is well as far as this process goes, and this is worth knowing: what it waits for. Shown with `?verbose`.
    Waiting(String),
    /// Something is wrong that a restart may mend, and why.
    Bad(String),
}

/// A named check.
pub struct Check {
    name: &'static str,
    look: Box<dyn Fn() -> Verdict + Send + Sync>,
}

impl Check {
    /// A check of this name. It is done at each request, and must not block.
    pub fn new(name: &'static str, look: impl Fn() -> Verdict + Send + Sync + 'static) -> Check {
        Check {
            name,
            look: Box::new(look),
        }
    }
}

/// All checks.
pub struct Health(Vec<Check>);

impl Health {
    /// `ping`, which is always well, and these.
    pub fn new(checks: Vec<Check>) -> Health {
        let mut all = vec![Check::new("ping", || Verdict::Good)];
        all.extend(checks);
        Health(all)
    }

    /// The answer to `/healthz`, or with a name to `/healthz/<name>`; `None` if there is no such check.
    pub(crate) fn answer(
        &self,
        name: Option<&str>,
        query: Option<&str>,
    ) -> Option<(StatusCode, String)> {
        match name {
            None => Some(self.all(query.unwrap_or_default())),
            Some(name) => {
                let check = self.0.iter().find(|check| check.name == name)?;
                Some(match (check.look)() {
                    Verdict::Bad(why) => (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        format!("internal server error: {why}\n"),
                    ),
                    Verdict::Good | Verdict::Waiting(_) => (StatusCode::OK, "ok".to_owned()),
                })
            }
        }
    }

    fn all(&self, query: &str) -> (StatusCode, String) {
        let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let excluded: Vec<&str> = query
            .iter()
            .filter(|(key, _)| key == "exclude")
            .map(|(_, value)| value.as_ref())
            .collect();
        let mut text = String::new();
        let mut failed = false;
        for check in &self.0 {
            let name = check.name;
            // Writing to a string does not fail.
            let _ = if excluded.contains(&name) {
                writeln!(text, "[+]{name} excluded: ok")
            } else {
                match (check.look)() {
                    Verdict::Good => writeln!(text, "[+]{name} ok"),
                    Verdict::Waiting(what) => writeln!(text, "[+]{name} ok: {what}"),
                    Verdict::Bad(why) => {
                        failed = true;
                        tracing::warn!(check = name, why, "a health check failed");
                        writeln!(text, "[-]{name} failed: reason withheld")
                    }
                }
            };
        }
        let unknown: Vec<String> = excluded
            .iter()
            .filter(|name| !self.0.iter().any(|check| check.name == **name))
            .map(|name| format!("{name:?}"))
            .collect();
        if !unknown.is_empty() {
            let unknown = unknown.join(",");
            let _ = writeln!(
                text,
                "warn: some health checks cannot be excluded: no matches for {unknown}"
            );
        }
        if failed {
            text.push_str("healthz check failed\n");
            return (StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        if !query.iter().any(|(key, _)| key == "verbose") {
            return (StatusCode::OK, "ok".to_owned());
        }
        text.push_str("healthz check passed\n");
        (StatusCode::OK, text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn health(verdict: Verdict) -> Health {
        Health::new(vec![
            Check::new("syncloop", move || verdict.clone()),
            Check::new("node", || {
                Verdict::Waiting("waits for the API server".into())
            }),
        ])
    }

    #[test]
    fn all_is_well() {
        let health = health(Verdict::Good);
        let ok = |text: &str| Some((StatusCode::OK, text.to_owned()));
        assert_eq!(health.answer(None, None), ok("ok"));
        assert_eq!(
            health.answer(None, Some("verbose")),
            ok(
                "[+]ping ok\n[+]syncloop ok\n[+]node ok: waits for the API server\nhealthz check passed\n"
            )
        );
        assert_eq!(health.answer(Some("ping"), None), ok("ok"));
        assert_eq!(health.answer(Some("other"), None), None);
    }

    #[test]
    fn what_is_wrong_is_named_and_why_is_told_to_who_asks_for_it() {
        let health = health(Verdict::Bad("it stands still".into()));
        let (code, text) = health.answer(None, None).unwrap();
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            text.contains("[-]syncloop failed: reason withheld\n"),
            "{text}"
        );
        assert!(text.ends_with("healthz check failed\n"), "{text}");
        let (code, text) = health.answer(Some("syncloop"), None).unwrap();
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(text, "internal server error: it stands still\n");
    }

    #[test]
    fn a_check_can_be_left_out() {
        let health = health(Verdict::Bad("it stands still".into()));
        let (code, text) = health
            .answer(None, Some("verbose&exclude=syncloop&exclude=none"))
            .unwrap();
        assert_eq!(code, StatusCode::OK);
        assert!(text.contains("[+]syncloop excluded: ok\n"), "{text}");
        assert!(text.contains("no matches for \"none\"\n"), "{text}");
    }
}
