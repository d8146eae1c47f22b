//! Who a person is to registries: what docker's and podman's files say, and the helpers that they name.
//!
//! Must not know what is pulled or pushed. Nothing here prints or logs a secret, errors included.

mod file;
mod helper;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::credentials::Credentials;
use crate::error::Error;
use crate::reference::Reference;
use file::{AuthFile, Said};

/// What docker calls its hub wherever credentials are kept.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB: &str = "docker.io";

/// Where credentials are looked for. Cheap to clone; files are read anew with each question, since `docker login` and
/// the like may change them at any time.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    places: Vec<Place>,
}

/// A file, and whether it must be there.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    path: PathBuf,
    required: bool,
}

impl Auth {
    /// Knows nobody: every registry is asked anonymously.
    pub fn none() -> Auth {
        Auth::default()
    }

    /// What this file says, which has the form of docker's `config.json`. It need not be there now.
    pub fn of_file(path: &Path) -> Auth {
        let path = path.to_owned();
        let required = false;
        Auth {
            places: vec![Place { path, required }],
        }
    }

    /// What this process's environment says, as docker and podman read it: `$REGISTRY_AUTH_FILE` alone where it is
    /// set; else, the first that knows the registry, `$DOCKER_CONFIG/config.json`,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json` (`~/.config`) and
    /// `~/.docker/config.json` (containers-auth.json(5); docker's `cli/config`).
    pub fn of_environment() -> Auth {
        Auth::of_variables(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn of_variables(get: impl Fn(&str) -> Option<OsString>) -> Auth {
        let folder = |name: &str| get(name).map(PathBuf::from);
        if let Some(path) = folder("REGISTRY_AUTH_FILE") {
            let required = true;
            return Auth {
                places: vec![Place { path, required }],
            };
        }
        let home = folder("HOME");
        let config = folder("XDG_CONFIG_HOME").or(home.as_ref().map(|h| h.join(".config")));
        let candidates = [
            folder("DOCKER_CONFIG").map(|d| d.join("config.json")),
            folder("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
            config.map(|d| d.join("containers/auth.json")),
            // Docker has one folder: the variable stands in place of the one at home.
            home.filter(|_| get("DOCKER_CONFIG").is_none())
                .map(|h| h.join(".docker/config.json")),
        ];
        let place = |path| Place {
            path,
            required: false,
        };
        Auth {
            places: candidates.into_iter().flatten().map(place).collect(),
        }
    }

    /// The credentials for the registry of `name`: of the first file that has some for the name or for a path above
    /// it. May run a helper (`docker-credential-…`), for at most 30 seconds. Anonymous where nothing is known.
    ///
    /// # Errors
    /// `Credentials` for a file that can't be read or understood, and for a helper that fails; names it.
    pub async fn credentials(&self, name: &Reference) -> Result<Credentials, Error> {
        for place in &self.places {
            let Some(file) = AuthFile::read(&place.path, place.required)? else {
                continue;
            };
            if let Some(found) = in_file(&file, name).await? {
                return Ok(found);
            }
        }
        Ok(Credentials::Anonymous)
    }
}

async fn in_file(file: &AuthFile, name: &Reference) -> Result<Option<Credentials>, Error> {
    let keys = keys(name);
    let written = match file.said(&keys)? {
        Some(Said::Credentials(found)) => Some(found),
        // An entry with nothing in it marks what the store of the file keeps.
        Some(Said::Nothing) | None => None,
    };
    let Some(helper) = file.helper(&hosts(name)) else {
        return Ok(written);
    };
    let found = helper::get(&file.path, helper, &server(name)).await?;
    Ok(found.or(written))
}

/// What an entry for `name` may be called, the most precise first: `host/path`, each folder above it, `host`.
fn keys(name: &Reference) -> Vec<String> {
    let mut keys = Vec::new();
    for host in hosts(name) {
        let mut path = format!("{host}/{}", name.repository());
        while let Some((above, _)) = path.rsplit_once('/') {
            let above = above.to_owned();
            keys.push(std::mem::replace(&mut path, above));
        }
        keys.push(path);
    }
    keys
}

/// The names of one registry: the hub has several.
fn hosts(name: &Reference) -> Vec<&str> {
    match name.registry() {
        HUB => vec![HUB, "index.docker.io", "registry-1.docker.io"],
        host => vec![host],
    }
}

/// What a helper knows the registry by.
fn server(name: &Reference) -> String {
    match name.registry() {
        HUB => HUB_KEY.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic(user.to_owned(), password.to_owned())
    }

    async fn ask(json: &str, name: &str) -> Result<Credentials, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        Auth::of_file(&path).credentials(&reference(name)).await
    }

    #[tokio::test]
    async fn entries_as_docker_and_podman_write_them() {
        // me:secret, a:b:c (a password with a colon), and one padded with the NUL that old tools leave.
        let json = r#"{"auths": {
            "r.example.org": {"auth": "bWU6c2VjcmV0"},
            "r.example.org/team": {"auth": "YTpiOmM="},
            "https://old.example.org/v1/": {"auth": "bWU6c2VjcmV0AA=="},
            "plain.example.org:5000": {"username": "u", "password": "p"},
            "token.example.org": {"auth": "bWU6", "identitytoken": "idt"},
            "bearer.example.org": {"registrytoken": "rt"},
            "empty.example.org": {},
            "https://index.docker.io/v1/": {"auth": "aHViOnBhc3M="}
        }, "HttpHeaders": {"User-Agent": "x"}}"#;
        for (name, expected) in [
            ("r.example.org/app", basic("me", "secret")),
            ("r.example.org/team/app", basic("a", "b:c")),
            ("r.example.org/teams/app", basic("me", "secret")),
            ("old.example.org/app", basic("me", "secret")),
            ("plain.example.org:5000/app", basic("u", "p")),
            ("plain.example.org/app", Credentials::Anonymous),
            ("token.example.org/app", Credentials::Identity("idt".into())),
            ("bearer.example.org/app", Credentials::Bearer("rt".into())),
            ("empty.example.org/app", Credentials::Anonymous),
            ("nginx", basic("hub", "pass")),
            ("docker.io/user/app", basic("hub", "pass")),
            ("elsewhere.example.org/app", Credentials::Anonymous),
        ] {
            assert_eq!(ask(json, name).await.unwrap(), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_and_no_secret_is() {
        for (json, word) in [
            ("{", "line 1"),
            (r#"{"auths": "c2VjcmV0"}"#, "line 1"),
            (r#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#, "user:password"),
            (r#"{"auths": {"r": {"auth": "!secret!"}}}"#, "base64"),
            (r#"{"auths": {"r": {"auth": "/////w=="}}}"#, "UTF-8"),
            (r#"{"credHelpers": {"r": "../secret"}}"#, "name of a helper"),
        ] {
            let json = json.replace("\"r\"", "\"r.example.org\"");
            let error = ask(&json, "r.example.org/x").await.unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("config.json") && text.contains(word),
                "{text}"
            );
            assert!(
                !text.contains("c2VjcmV0") && !text.contains("!secret"),
                "{text}"
            );
        }
        let gone = Auth::of_variables(|n| (n == "REGISTRY_AUTH_FILE").then(|| "/nowhere".into()));
        let error = gone.credentials(&reference("x")).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
        let absent = Auth::of_file(Path::new("/nowhere"));
        let found = absent.credentials(&reference("x")).await.unwrap();
        assert_eq!(found, Credentials::Anonymous);
    }

    #[test]
    fn files_in_the_order_that_users_expect() {
        let paths = |set: &[(&str, &str)]| -> Vec<String> {
            let get = |name: &str| Some(set.iter().find(|(n, _)| *n == name)?.1.into());
            let auth = Auth::of_variables(get);
            let shown = |p: &Place| p.path.display().to_string();
            auth.places.iter().map(shown).collect()
        };
        assert_eq!(
            paths(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]),
            ["/a"]
        );
        assert_eq!(
            paths(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]),
            [
                "/r/containers/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json"
            ]
        );
        assert_eq!(
            paths(&[
                ("HOME", "/h"),
                ("DOCKER_CONFIG", "/d"),
                ("XDG_CONFIG_HOME", "/c")
            ]),
            ["/d/config.json", "/c/containers/auth.json"]
        );
        assert_eq!(paths(&[]), [""; 0]);
    }

    /// A helper on a PATH of its own: the script answers by the server it is asked for.
    struct Helper {
        dir: tempfile::TempDir,
    }

    impl Helper {
        fn new(script: &str) -> Helper {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("docker-credential-test");
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Helper { dir }
        }

        async fn get(&self, server: &str) -> Result<Option<Credentials>, Error> {
            let program = self.dir.path().join("docker-credential-test");
            helper::run(Path::new("config.json"), &program, server, PATIENCE).await
        }
    }

    /// Long enough for any machine.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

    #[tokio::test]
    async fn helpers_are_asked_by_their_protocol() {
        let helper = Helper::new(
            r#"[ "$1" = get ] || exit 9
read -r server
case "$server" in
  user.example.org) echo '{"ServerURL":"x","Username":"u","Secret":"s"}';;
  token.example.org) echo '{"Username":"<token>","Secret":"idt"}';;
  none.example.org) echo 'credentials not found in native keychain'; exit 1;;
  nothing.example.org) echo '{"Username":"","Secret":""}';;
  broken.example.org) echo '{"Secret":"hidden"';;
  big.example.org) head -c 2000000 /dev/zero;;
  *) echo "no keychain here" >&2; exit 3;;
esac"#,
        );
        let user = helper.get("user.example.org").await.unwrap();
        assert_eq!(user, Some(basic("u", "s")));
        let token = helper.get("token.example.org").await.unwrap();
        assert_eq!(token, Some(Credentials::Identity("idt".into())));
        assert_eq!(helper.get("none.example.org").await.unwrap(), None);
        assert_eq!(helper.get("nothing.example.org").await.unwrap(), None);
        for (server, word) in [
            ("broken.example.org", "JSON"),
            ("big.example.org", "bytes"),
            ("other.example.org", "no keychain here"),
        ] {
            let text = helper.get(server).await.unwrap_err().to_string();
            let named = text.contains("docker-credential-test") && text.contains(server);
            assert!(named && text.contains(word), "{text}");
            assert!(!text.contains("hidden"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_hangs_or_is_missing_is_named() {
        let hangs = Helper::new("exec sleep 600");
        let program = hangs.dir.path().join("docker-credential-test");
        let short = std::time::Duration::from_millis(20);
        let result = helper::run(Path::new("config.json"), &program, "r", short).await;
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains("docker-credential-test") && text.contains("20ms"),
            "{text}"
        );
        let json = r#"{"credsStore": "not-there-at-all"}"#;
        let text = ask(json, "r.example.org/x").await.unwrap_err().to_string();
        assert!(
            text.contains("docker-credential-not-there-at-all"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_entry_stands_in_where_the_store_knows_nothing() {
        let file = |json: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config.json");
            std::fs::write(&path, json).unwrap();
            AuthFile::read(&path, true).unwrap().unwrap()
        };
        let both = file(
            r#"{"auths":{"r.example.org":{}},"credsStore":"all",
                "credHelpers":{"r.example.org":"one","docker.io":"hub","none.example.org":""}}"#,
        );
        assert_eq!(both.helper(&["r.example.org"]), Some("one"));
        assert_eq!(both.helper(&["other.example.org"]), Some("all"));
        // An empty helper switches the store off for a registry, as in docker.
        assert_eq!(both.helper(&["none.example.org"]), None);
        assert_eq!(both.helper(&hosts(&reference("nginx"))), Some("hub"));
        assert_eq!(server(&reference("nginx")), HUB_KEY);
        assert_eq!(server(&reference("r.example.org:5/x")), "r.example.org:5");
    }
}
