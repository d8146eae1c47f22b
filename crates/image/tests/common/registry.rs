//! A registry in this process, well behaved or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use image::{Digest, Reference};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Made;

/// What was asked.
pub struct Request {
    pub path: String,
    pub headers: HashMap<String, String>,
    /// Of a POST.
    pub body: String,
    /// How often this path was asked for before.
    pub before: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
pub enum Reply {
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Promises so many bytes, sends these and breaks off.
    Cut(Vec<u8>, usize),
    /// Promises so many bytes, sends these and nothing more.
    Part(Vec<u8>, usize),
    Hang,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply::Answer(status, vec![], vec![])
    }

    pub fn ok(body: &[u8]) -> Reply {
        Reply::Answer(200, vec![], body.to_vec())
    }

    pub fn redirect(to: String) -> Reply {
        Reply::Answer(307, vec![("Location", to)], vec![])
    }

    pub fn challenge(challenge: String) -> Reply {
        Reply::Answer(401, vec![("WWW-Authenticate", challenge)], vec![])
    }
}

type Behaviour = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// A registry on this machine, as good as its behaviour.
pub struct Registry {
    pub address: std::net::SocketAddr,
    served: Arc<Served>,
}

struct Served {
    files: HashMap<String, Vec<u8>>,
    asked: Mutex<Vec<String>>,
    behaviour: Behaviour,
}

impl Registry {
    /// Serves `made` as app:v1, except where `behaviour` says otherwise.
    pub async fn start(
        made: &Made,
        behaviour: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Registry {
        Registry::start_with(made, None, behaviour).await
    }

    /// The same, behind TLS.
    pub async fn start_with(
        made: &Made,
        tls: Option<TlsAcceptor>,
        behaviour: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = Arc::new(Served {
            files: files(made),
            asked: Mutex::default(),
            behaviour: Arc::new(behaviour),
        });
        let registry = Registry {
            address: listener.local_addr().unwrap(),
            served: served.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (served, tls) = (served.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => served.serve(tls.accept(stream).await.ok()?).await,
                        None => served.serve(stream).await,
                    }
                });
            }
        });
        registry
    }

    /// Where nobody listens.
    pub fn at(address: std::net::SocketAddr) -> Registry {
        let served = Served {
            files: HashMap::new(),
            asked: Mutex::default(),
            behaviour: Arc::new(|_| None),
        };
        Registry {
            address,
            served: Arc::new(served),
        }
    }

    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    /// How many requests had this in their path.
    pub fn asked(&self, part: &str) -> usize {
        let asked = self.served.asked.lock().unwrap();
        asked.iter().filter(|p| p.contains(part)).count()
    }
}

pub fn is_blob(request: &Request) -> bool {
    request.path.contains("/blobs/")
}

fn files(made: &Made) -> HashMap<String, Vec<u8>> {
    let mut files = HashMap::from([
        ("/v2/app/manifests/v1".to_owned(), made.manifest.clone()),
        (
            "/v2/app/tags/list?n=1000".to_owned(),
            br#"{"name":"app","tags":["v1"]}"#.to_vec(),
        ),
    ]);
    for blob in made.blobs.iter().chain([&made.manifest]) {
        for kind in ["blobs", "manifests"] {
            let path = format!("/v2/app/{kind}/{}", Digest::of(blob));
            files.insert(path, blob.clone());
        }
    }
    files
}

async fn begin(
    stream: &mut (impl AsyncWrite + Unpin),
    body: &[u8],
    length: usize,
) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}

impl Served {
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let request = self.request(&mut stream).await?;
            let reply = (self.behaviour)(&request).unwrap_or_else(|| self.file(&request));
            match reply {
                Reply::Hang => std::future::pending().await,
                Reply::Cut(body, length) => {
                    begin(&mut stream, &body, length).await.ok()?;
                    return None;
                }
                Reply::Part(body, length) => {
                    begin(&mut stream, &body, length).await.ok()?;
                    std::future::pending().await
                }
                Reply::Answer(status, headers, body) => {
                    let line = |(n, v): &(&str, String)| format!("{n}: {v}\r\n");
                    let headers: String = headers.iter().map(line).collect();
                    let length = body.len();
                    let head =
                        format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.ok()?;
                    stream.write_all(&body).await.ok()?;
                    stream.flush().await.ok()?;
                }
            }
        }
    }

    async fn request(
        &self,
        stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
    ) -> Option<Request> {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers
            .get("content-length")
            .map_or(0, |l| l.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let mut asked = self.asked.lock().unwrap();
        asked.push(path.clone());
        let before = asked.iter().filter(|p| **p == path).count() - 1;
        Some(Request {
            path,
            headers,
            body: String::from_utf8(body).unwrap(),
            before,
        })
    }

    fn file(&self, request: &Request) -> Reply {
        let Some(body) = self.files.get(&request.path) else {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return Reply::Answer(404, vec![], body.to_vec());
        };
        let range = request
            .header("range")
            .and_then(|r| r.strip_prefix("bytes="));
        let from = range.and_then(|r| r.strip_suffix('-')?.parse::<usize>().ok());
        match from {
            Some(from) if from >= body.len() => Reply::status(416),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                Reply::Answer(206, vec![("Content-Range", range)], body[from..].to_vec())
            }
            None => {
                let kind = "application/vnd.oci.image.manifest.v1+json".to_owned();
                Reply::Answer(200, vec![("Content-Type", kind)], body.clone())
            }
        }
    }
}
