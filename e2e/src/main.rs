//! `cargo run -p e2e -- build`: builds the control plane's programs into the cache.
//! `cargo run -p e2e -- up [NODE]`: starts a control plane and keeps it until Ctrl-C, for a developer.
//! `cargo run -p e2e -- shell`: a cluster of two hosts in network namespaces, each with a Wasm node, and a shell in it.

//! `cargo run -p e2e -- bench [--help]`: a Coracle node beside a KWOK node, which `cargo xtask bench cluster` runs in release.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Parser;
use e2e::bench;
use e2e::programs::Programs;
use e2e::{Cluster, ControlPlane};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The first process of a host: before there is a thread.
    if let ["host-init", name, dir] = arguments.as_slice() {
        return e2e::cluster::init::main(name, Path::new(dir));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&arguments))
}

/// Measures a Coracle node beside a KWOK node, on one control plane.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench cluster", max_term_width = 100)]
struct Bench {
    #[command(flatten)]
    args: bench::Args,
}

async fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] | ["build"] => Programs::build().map(|_| ()),
        ["up"] => up("wasm-1").await,
        ["up", node] => up(node).await,
        ["shell"] => shell().await,
        ["bench", ..] => bench::measure(&Bench::parse_from(arguments).args).await,
        other => bail!(
            "no such command: {}; there are `build`, `up [NODE]`, `shell` and `bench`",
            other.join(" ")
        ),
    }
}

async fn up(node: &str) -> Result<()> {
    Programs::build()?;
    let plane = ControlPlane::start().await?;
    println!("export KUBECONFIG={}", plane.admin_kubeconfig().display());
    println!("export PATH={}:$PATH", plane.programs().path("").display());
    println!(
        "# coracle node --node-name {node} --kubeconfig {}",
        plane.node_kubeconfig(node)?.display()
    );
    println!("# Ctrl-C ends it, and leaves nothing behind");
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// A cluster with a Wasm node on each host, and a shell in the hosts' network; all ends with the shell.
async fn shell() -> Result<()> {
    Programs::build()?;
    let cluster = Cluster::start(2).await?;
    let nodes = (0..2)
        .map(|host| cluster.start_node(host, &[]))
        .collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = nodes.iter().map(|node| node.name()).collect();
    println!("kubectl is at hand; Wasm nodes: {}", names.join(", "));
    println!("logs: {}", cluster.dir().display());
    println!("`exit` ends it, and leaves nothing behind");
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![cluster.programs().path("")];
    folders.extend(std::env::split_paths(&path));
    cluster
        .host(0)?
        .in_network(Path::new(&shell))
        .env("KUBECONFIG", cluster.admin_kubeconfig()?)
        .env("PATH", std::env::join_paths(folders)?)
        .status()?;
    Ok(())
}
