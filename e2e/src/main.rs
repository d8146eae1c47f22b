//! `cargo run -p e2e -- build`: builds the control plane's programs into the cache.
//! `cargo run -p e2e -- up [NODE]`: starts a control plane and keeps it until Ctrl-C, for a developer.

use anyhow::{Result, bail};
use e2e::ControlPlane;
use e2e::programs::Programs;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] | ["build"] => Programs::build().map(|_| ()),
        ["up"] => up("wasm-1").await,
        ["up", node] => up(node).await,
        other => bail!(
            "no such command: {}; there are `build` and `up [NODE]`",
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
