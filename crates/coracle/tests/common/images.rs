//! Images made by hand, whole or spoilt on purpose, as folders of an OCI layout.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const OCI: &str = "application/vnd.oci.image";

/// A guest that prints its first file's name and ends: the smallest module that does something.
pub fn says(text: &str) -> String {
    let escaped: String = text.bytes().map(|b| format!("\\{b:02x}")).collect();
    let length = text.len();
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "{escaped}")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const {length}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    )
}

/// [`says`], assembled.
pub fn saying(text: &str) -> Vec<u8> {
    wat::parse_str(says(text)).unwrap()
}

/// A tar with whatever names and kinds.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// With a module `app.wasm` that says `text`.
    pub fn saying(text: &str) -> Tar {
        Tar::default().file("app.wasm", &saying(text))
    }

    pub fn entry(mut self, kind: u8, name: &str, link: &str, data: &[u8]) -> Tar {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_mtime(1000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Tar {
        self.entry(b'0', name, "", data)
    }

    pub fn dir(self, name: &str) -> Tar {
        self.entry(b'5', name, "", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(b'2', name, target, b"")
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// An image to write as a layout.
pub struct Layout {
    layers: Vec<Vec<u8>>,
    config: Value,
    platform: (&'static str, &'static str),
}

impl Layout {
    /// A compat image of these layers that runs `app.wasm`.
    pub fn new(layers: impl IntoIterator<Item = Tar>) -> Layout {
        Layout {
            layers: layers.into_iter().map(Tar::bytes).collect(),
            config: json!({"Entrypoint": ["/app.wasm"]}),
            platform: ("wasi", "wasm32"),
        }
    }

    pub fn config(self, config: Value) -> Layout {
        Layout { config, ..self }
    }

    pub fn platform(self, os: &'static str, architecture: &'static str) -> Layout {
        Layout {
            platform: (os, architecture),
            ..self
        }
    }

    /// Writes it to a folder; gives the name that `coracle run` takes.
    pub fn write(&self, dir: &Path) -> String {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |media_type: &str, bytes: &[u8]| -> Value {
            let hex = hex(bytes);
            std::fs::write(blobs.join(&hex), bytes).unwrap();
            json!({"mediaType": format!("{OCI}.{media_type}"), "digest": format!("sha256:{hex}"), "size": bytes.len()})
        };
        let (os, architecture) = self.platform;
        let ids: Vec<String> = self
            .layers
            .iter()
            .map(|tar| format!("sha256:{}", hex(tar)))
            .collect();
        let config = json!({"os": os, "architecture": architecture, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": ids}});
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|tar| put("layer.v1.tar+gzip", &gzip(tar)))
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"),
            "config": put("config.v1+json", config.to_string().as_bytes()), "layers": layers});
        let manifest = put("manifest.v1+json", manifest.to_string().as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        format!("oci:{}", dir.display())
    }
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
