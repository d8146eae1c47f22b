//! Real pods on this machine: what a person sees first.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use ::guests::{Guest, Missing};
use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::{guests, process, setup};

/// Sets everything up and runs a Rust hello, a Go program, a C program, CPython and a web server.
///
/// # Errors
/// When something can't be built, or a pod does not say what it must.
pub(crate) fn run(context: &mut Context) -> Result<()> {
    context.say("set-up");
    setup::for_guests(context)?;
    guests::build(context)?;
    context.say("coracle: several minutes the first time");
    process::run(
        // The selection of packages that the tests have too: another would compile Wasmtime once more.
        &mut context.cargo(&["build", "--workspace", "--bin", "coracle"]),
        "coracle does not compile",
    )?;
    let coracle = context.target().join("debug/coracle");

    let module = |guest| ::guests::path(guest).map(|path| path.display().to_string());
    let image = ::guests::python_image().map(|path| format!("oci-archive:{}", path.display()));
    let pods: [(&str, Result<String, Missing>, &[&str]); 4] = [
        (
            "a Rust program",
            module(Guest::RustHello),
            &["hello from Rust\n"],
        ),
        (
            "a Go program",
            module(Guest::GoInspect),
            &["args: ", "\n/: "],
        ),
        ("a C program", module(Guest::CHello), &["hello from C\n"]),
        (
            "CPython, from an image that buildah built",
            image,
            &["Python 3.12", "'main.py'", "'python3.wasm'"],
        ),
    ];
    for (what, image, expected) in pods {
        match image {
            Ok(image) => pod(context, &coracle, what, &image, expected)?,
            // The guests' build has told of it already, or failed.
            Err(Missing::LeftOut { reason, .. }) => {
                context.say(&format!("no pod of {what}: {reason}"))
            }
            Err(missing) => return Err(missing.into()),
        }
    }
    match module(Guest::RustServer) {
        Ok(server) => web_server(context, &coracle, &server),
        Err(Missing::LeftOut { reason, .. }) => {
            context.say(&format!("no web server: {reason}"));
            Ok(())
        }
        Err(missing) => Err(missing.into()),
    }
}

/// The pod of the web server.
const SERVER: &str = "demo-server";

/// A pod in the background: it is started, asked, looked at and stopped.
fn web_server(context: &Context, coracle: &Path, module: &str) -> Result<()> {
    context.say("a pod in the background: a web server of wasi:http, published at a port");
    // One that was left by a demo that was killed.
    let left = Command::new(coracle).args(["inspect", SERVER]).output()?;
    if left.status.success() {
        steps(coracle, &[&["stop", SERVER], &["rm", SERVER]])?;
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let published = format!("127.0.0.1:{port}:8080");
    let run = ["run", "-d", "--name", SERVER, "-p", &published, module];
    type_in(coracle, &run)?;
    let looked_at = ask(port).and_then(|()| steps(coracle, &[&["ps"], &["logs", SERVER]]));
    let ended = steps(coracle, &[&["stop", SERVER], &["rm", SERVER]]);
    looked_at.and(ended)
}

fn steps(coracle: &Path, all: &[&[&str]]) -> Result<()> {
    all.iter().try_for_each(|arguments| {
        type_in(coracle, arguments)?;
        Ok(())
    })
}

/// Runs coracle as a person would, and shows what was typed and what came of it.
#[allow(clippy::print_stdout, reason = "the demo shows what its pods say")]
fn type_in(coracle: &Path, arguments: &[&str]) -> Result<String> {
    let typed = format!("coracle {}", arguments.join(" "));
    println!("$ {typed}");
    let output = process::output(Command::new(coracle).args(arguments))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("`{typed}` ended with {}", output.status);
    }
    Ok(text)
}

/// Asks the server as curl does, or with curl where that is.
#[allow(clippy::print_stdout, reason = "the demo shows what its pods say")]
fn ask(port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/");
    let answer = match process::has("curl") {
        true => {
            println!("$ curl --silent {url}");
            let mut curl = Command::new("curl");
            // Whatever proxies the environment names are not for loopback.
            curl.args(["--silent", "--noproxy", "*", &url]);
            String::from_utf8_lossy(&process::output(&mut curl)?.stdout).into_owned()
        }
        false => {
            println!("# a request for {url}");
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            answer
        }
    };
    print!("{answer}");
    match answer.contains("hello from Rust") {
        true => Ok(()),
        false => bail!("the web server did not say hello at {url}"),
    }
}

#[allow(clippy::print_stdout, reason = "the demo shows what its pods say")]
fn pod(
    context: &Context,
    coracle: &Path,
    what: &str,
    image: &str,
    expected: &[&str],
) -> Result<()> {
    context.say(&format!("a pod: {what}"));
    println!("$ coracle run {image}");
    let output = process::output(Command::new(coracle).args(["run", image]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!(
            "the pod of {what} ended with {}; its own words are above",
            output.status
        );
    }
    let missing = expected.iter().find(|part| !text.contains(**part));
    missing
        .map_or(Ok(()), |part| {
            bail!("the pod of {what} did not say {part:?}")
        })
        .with_context(|| {
            format!("`coracle run {image}` came to its end, but not to what this program does")
        })
}
