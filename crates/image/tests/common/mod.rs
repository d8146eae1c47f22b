//! Images made by hand, as folders of an OCI layout.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

pub mod registry;

use std::path::{Path, PathBuf};

use image::{Digest, Error, Image, Source, Store};
use serde_json::{Value, json};

pub const WASM: &[u8] = b"\0asm\x01\0\0\0";
pub const OCI: &str = "application/vnd.oci.image";

/// A tar, entry by entry, with whatever names.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn entry(mut self, kind: u8, name: &str, link: &str, mode: u32, data: &[u8]) -> Tar {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_mtime(1000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Tar {
        self.entry(b'0', name, "", 0o644, data)
    }

    pub fn dir(self, name: &str) -> Tar {
        self.entry(b'5', name, "", 0o755, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(b'2', name, target, 0o777, b"")
    }

    pub fn link(self, name: &str, target: &str) -> Tar {
        self.entry(b'1', name, target, 0o644, b"")
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A blob and its descriptor.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

/// The documents and blobs of one image.
#[derive(Clone, Default)]
pub struct Made {
    pub blobs: Vec<Vec<u8>>,
    pub manifest: Vec<u8>,
}

/// A compat image: `layers` as (tar, blob).
pub fn compat(layers: &[(Vec<u8>, Vec<u8>)], config: Value, platform: (&str, &str)) -> Made {
    let ids: Vec<String> = layers
        .iter()
        .map(|(tar, _)| Digest::of(tar).to_string())
        .collect();
    let config = json!({"os": platform.0, "architecture": platform.1, "config": config,
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let config = config.to_string().into_bytes();
    let list: Vec<Value> = layers
        .iter()
        .map(|(_, blob)| descriptor(&format!("{OCI}.layer.v1.tar+gzip"), blob))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"),
        "config": descriptor(&format!("{OCI}.config.v1+json"), &config), "layers": list});
    let mut blobs: Vec<Vec<u8>> = layers.iter().map(|(_, blob)| blob.clone()).collect();
    blobs.push(config);
    Made {
        blobs,
        manifest: manifest.to_string().into_bytes(),
    }
}

/// An artifact as the CNCF has it.
pub fn artifact(module: &[u8]) -> Made {
    let config = br#"{"architecture":"wasm","os":"wasip1"}"#.to_vec();
    let manifest = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"),
        "config": descriptor("application/vnd.wasm.config.v0+json", &config),
        "layers": [descriptor("application/wasm", module)]});
    Made {
        blobs: vec![module.to_vec(), config],
        manifest: manifest.to_string().into_bytes(),
    }
}

pub fn wasi(layers: &[Vec<u8>]) -> Made {
    let layers: Vec<_> = layers.iter().map(|tar| (tar.clone(), gzip(tar))).collect();
    compat(
        &layers,
        json!({"Entrypoint": ["app.wasm"], "Env": ["PATH=/bin"]}),
        ("wasi", "wasm32"),
    )
}

/// Writes an OCI layout.
pub fn layout(dir: &Path, made: &Made) -> Source {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for blob in made.blobs.iter().chain([&made.manifest]) {
        std::fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
    }
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(&format!("{OCI}.manifest.v1+json"), &made.manifest)]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    Source {
        path: dir.to_owned(),
        image: None,
    }
}

pub struct Place {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Place { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn import(&self, made: &Made) -> Result<Image, Error> {
        self.store.import(&layout(&self.path("layout"), made), None)
    }

    /// One layer, unpacked: its folder.
    pub fn layer(&self, tar: Tar) -> Result<PathBuf, Error> {
        Ok(self.import(&wasi(&[tar.bytes()]))?.layers[0].path.clone())
    }

    /// Nothing half-made is left, and every blob is what it says.
    pub fn assert_clean(&self) {
        assert_eq!(self.store.verify().unwrap(), []);
        for session in std::fs::read_dir(self.path("store/tmp")).unwrap() {
            assert_eq!(
                std::fs::read_dir(session.unwrap().path()).unwrap().count(),
                0
            );
        }
    }
}
