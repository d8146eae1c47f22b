//! Builds Kubernetes' programs, etcd, CoreDNS and a registry as Go modules, once for each module set and set of flags.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// The version that is built, and stamped in: clients compare it.
const VERSION: &str = "v1.36.3";

/// A program that tests start.
struct Program {
    name: &'static str,
    /// The folder of its Go module set, in this crate's.
    modules: &'static str,
    package: &'static str,
    /// Whether Kubernetes' version is stamped in.
    versioned: bool,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "etcd",
        modules: "controlplane",
        package: "go.etcd.io/etcd/server/v3",
        versioned: false,
    },
    Program {
        name: "kube-apiserver",
        modules: "controlplane",
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        versioned: true,
    },
    Program {
        name: "kubectl",
        modules: "controlplane",
        package: "k8s.io/kubernetes/cmd/kubectl",
        versioned: true,
    },
    Program {
        name: "kube-controller-manager",
        modules: "controlplane",
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        versioned: true,
    },
    Program {
        name: "kube-scheduler",
        modules: "controlplane",
        package: "k8s.io/kubernetes/cmd/kube-scheduler",
        versioned: true,
    },
    Program {
        name: "kubelet",
        modules: "controlplane",
        package: "k8s.io/kubernetes/cmd/kubelet",
        versioned: true,
    },
    Program {
        name: "kube-proxy",
        modules: "controlplane",
        package: "k8s.io/kubernetes/cmd/kube-proxy",
        versioned: true,
    },
    Program {
        name: "coredns",
        modules: "coredns",
        package: ".",
        versioned: false,
    },
    Program {
        name: "testapp",
        modules: "testapp",
        package: ".",
        versioned: false,
    },
    Program {
        name: "registry",
        modules: "registry",
        package: ".",
        versioned: false,
    },
];

/// The peer of the benchmark, which no test needs: `cmd/kwok` writes what a node must write, and runs nothing.
const KWOK: Program = Program {
    name: "kwok",
    modules: "kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    versioned: false,
};

/// All that the builds of [`PROGRAMS`] depend on, in this crate's folder.
const SOURCES: &[&str] = &[
    "controlplane/go.mod",
    "controlplane/go.sum",
    "coredns/go.mod",
    "coredns/go.sum",
    "coredns/main.go",
    "testapp/go.mod",
    "testapp/main.go",
    "registry/go.mod",
    "registry/go.sum",
    "registry/main.go",
];

/// Where the built programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The programs, if they are built.
    ///
    /// # Errors
    /// Says how to build them.
    pub fn find() -> Result<Programs> {
        let dir = dir()?;
        let missing: Vec<&str> = PROGRAMS
            .iter()
            .map(|program| program.name)
            .filter(|name| !dir.join(name).is_file())
            .collect();
        if missing.is_empty() {
            return Ok(Programs { dir });
        }
        bail!(
            "the control plane's programs are not built ({} missing in {}): run `cargo run -p e2e -- build` once (Go 1.26 or newer; minutes at first, seconds from Go's cache)",
            missing.join(", "),
            dir.display()
        )
    }

    /// Builds what isn't built yet, with a line on standard error for each program.
    ///
    /// # Errors
    /// Whatever keeps Go from building, with Go's own words.
    pub fn build() -> Result<Programs> {
        let dir = dir()?;
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        for (number, program) in PROGRAMS.iter().enumerate() {
            let step = format!("[{}/{}] {}", number + 1, PROGRAMS.len(), program.name);
            if dir.join(program.name).is_file() {
                eprintln!("{step}: built");
                continue;
            }
            eprintln!("{step}: building {} …", program.package);
            let begun = std::time::Instant::now();
            build_one(&dir, program)?;
            eprintln!("{step}: built in {:.1} s", begun.elapsed().as_secs_f64());
        }
        Ok(Programs { dir })
    }

    /// The path of KWOK, which is built when it is first asked for.
    ///
    /// # Errors
    /// As [`Programs::build`].
    pub fn kwok() -> Result<PathBuf> {
        let dir = folder(&["kwok/go.mod", "kwok/go.sum"])?;
        let path = dir.join(KWOK.name);
        if !path.is_file() {
            eprintln!("building {} …", KWOK.package);
            std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
            build_one(&dir, &KWOK)?;
        }
        Ok(path)
    }

    /// The path of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn build_one(dir: &Path, program: &Program) -> Result<()> {
    let Program {
        name,
        modules: set,
        package,
        versioned,
    } = program;
    // Built beside and renamed: a build that was cut off leaves nothing that looks finished, and two may race.
    let unfinished = dir.join(format!(".{name}.{}", std::process::id()));
    let status = Command::new("go")
        .current_dir(modules(set))
        .args([
            "build",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags",
            &ldflags(*versioned),
            "-o",
        ])
        .arg(&unfinished)
        .arg(package)
        .env_remove("GOFLAGS")
        .envs(static_if(matches!(*set, "coredns" | "testapp")))
        .env("GOTOOLCHAIN", "local")
        .status()
        .context("running go, which builds the control plane: install Go 1.26 or newer")?;
    ensure!(
        status.success(),
        "go build {package} failed ({status}); its reason stands above"
    );
    std::fs::rename(&unfinished, dir.join(name))
        .with_context(|| format!("moving {name} into {}", dir.display()))
}

/// An image of one program has no libraries.
fn static_if(of_image: bool) -> Option<(&'static str, &'static str)> {
    of_image.then_some(("CGO_ENABLED", "0"))
}

fn dir() -> Result<PathBuf> {
    folder(SOURCES)
}

/// `$CORACLE_CACHE/bin/KEY`, where the key covers the sources, and whatever else a build depends on.
fn folder(sources: &[&str]) -> Result<PathBuf> {
    let cache = match std::env::var_os("CORACLE_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(
            std::env::var_os("HOME").context("neither CORACLE_CACHE nor HOME is set")?,
        )
        .join(".cache/coracle"),
    };
    let mut hash = Sha256::new();
    for file in sources {
        let path = modules(file);
        hash.update(std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    hash.update(ldflags(true));
    let key: String = hex::encode(hash.finalize()).chars().take(16).collect();
    Ok(cache.join("bin").join(key))
}

/// A Go module set, or a file of one, in this crate's folder.
fn modules(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(set)
}

fn ldflags(versioned: bool) -> String {
    let mut flags = "-s -w".to_owned();
    if versioned {
        let (major, minor) = ("1", "36");
        for package in [
            "k8s.io/component-base/version",
            "k8s.io/client-go/pkg/version",
        ] {
            for (name, value) in [
                ("gitVersion", VERSION),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitCommit", "module"),
                ("gitTreeState", "clean"),
                // Any fixed moment will do: the same inputs are to give the same program.
                ("buildDate", "2026-01-01T00:00:00Z"),
            ] {
                flags.push_str(&format!(" -X {package}.{name}={value}"));
            }
        }
    }
    flags
}
