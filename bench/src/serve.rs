//! As much of a registry as a pull needs, for both sides of a comparison: the file goes from the page cache to the
//! socket with no copy of ours.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use crate::layer::{Layer, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry of this machine, for as long as this process lives.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
}

/// What stands behind a path.
enum Content {
    Bytes(Vec<u8>),
    File(PathBuf, u64),
}

type Contents = Arc<HashMap<String, Content>>;

impl Server {
    /// Serves `blob:v1`, an artifact that is the layer's file, and `files:v1`, an image with that layer.
    pub(crate) fn start(layer: &Layer) -> anyhow::Result<Server> {
        let mut contents = HashMap::from([("/v2/".to_owned(), Content::Bytes(b"{}".to_vec()))]);
        let artifact = r#"{"architecture":"wasm","os":"wasip1"}"#.to_owned();
        add(
            &mut contents,
            "blob",
            artifact,
            "application/vnd.wasm.config.v0+json",
            "application/wasm",
            layer,
        );
        let config = format!(
            r#"{{"architecture":"wasm32","os":"wasi","config":{{"Entrypoint":["/app.wasm"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            layer.diff_id
        );
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        add(
            &mut contents,
            "files",
            config,
            "application/vnd.oci.image.config.v1+json",
            tar,
            layer,
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, contents) = (listener.local_addr()?, Arc::new(contents));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let contents = contents.clone();
                // A peer that goes away ends its own thread alone.
                std::thread::spawn(move || serve(stream, &contents));
            }
        });
        Ok(Server { address })
    }
}

/// One image: its manifest by tag and digest, its configuration, its layer.
fn add(
    contents: &mut HashMap<String, Content>,
    name: &str,
    config: String,
    config_type: &str,
    layer_type: &str,
    layer: &Layer,
) {
    let (digest, length) = (digest_of(config.as_bytes()), config.len());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{config_type}","digest":"{digest}","size":{length}}},"layers":[{{"mediaType":"{layer_type}","digest":"{}","size":{}}}]}}"#,
        layer.digest, layer.size
    );
    for reference in ["v1".to_owned(), digest_of(manifest.as_bytes())] {
        let bytes = Content::Bytes(manifest.clone().into_bytes());
        contents.insert(format!("/v2/{name}/manifests/{reference}"), bytes);
    }
    let blobs = format!("/v2/{name}/blobs");
    contents.insert(
        format!("{blobs}/{digest}"),
        Content::Bytes(config.into_bytes()),
    );
    let file = Content::File(layer.path.clone(), layer.size);
    contents.insert(format!("{blobs}/{}", layer.digest), file);
}

/// Answers one connection's requests until it ends.
fn serve(stream: TcpStream, contents: &Contents) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next(), words.next().unwrap_or_default());
        let found = contents.get(path);
        let (status, length) = match found {
            Some(Content::Bytes(bytes)) => ("200 OK", bytes.len() as u64),
            Some(Content::File(_, size)) => ("200 OK", *size),
            None => ("404 Not Found", 0),
        };
        let kind = match path.contains("/manifests/") {
            true => MANIFEST,
            false => "application/octet-stream",
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )?;
        match found {
            Some(Content::Bytes(bytes)) if method == Some("GET") => stream.write_all(bytes)?,
            Some(Content::File(path, _)) if method == Some("GET") => {
                std::io::copy(&mut File::open(path)?, &mut stream)?;
            }
            _ => {}
        }
    }
}
