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

#[tokio::test]
async fn texts_stand_before_files_and_run_no_helper() {
    let name = reference("r.example.org/app");
    let text = |json: &str, bare| Auth::of_text("secret a/b", json.as_bytes(), bare).unwrap();
    let first = text(
        r#"{"auths":{"r.example.org":{"auth":"bWU6c2VjcmV0"}},"credsStore":"x"}"#,
        false,
    );
    let second = text(
        r#"{"r.example.org/app":{"username":"u","password":"p"}}"#,
        true,
    );
    let both = first.clone().then(second).then(first);
    let all = both.all(&name).await.unwrap();
    assert_eq!(all, [basic("me", "secret"), basic("u", "p")]);
    let other = both
        .all(&reference("elsewhere.example.org/app"))
        .await
        .unwrap();
    assert_eq!(other, [Credentials::Anonymous]);
    let helper = text(r#"{"credsStore":"not-there-at-all"}"#, false);
    assert_eq!(helper.all(&name).await.unwrap(), [Credentials::Anonymous]);
    let error = Auth::of_text("secret a/b", b"{\"auths\": \"c2VjcmV0\"}", false).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("secret a/b") && !error.contains("c2VjcmV0"),
        "{error}"
    );
}

#[test]
fn files_in_the_order_that_users_expect() {
    let paths = |set: &[(&str, &str)]| -> Vec<String> {
        let get = |name: &str| Some(set.iter().find(|(n, _)| *n == name)?.1.into());
        let auth = Auth::of_variables(get);
        let shown = |place: &Place| match place {
            Place::File { path, .. } => path.display().to_string(),
            Place::Text(file) => format!("{file:?}"),
        };
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
