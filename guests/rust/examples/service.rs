//! Answers over `wasi:http` of preview 3: `/` says hello, `/echo` gives back body and trailers as
//! they come, `/stream?KIB` gives that much, `/sleep?MS`, `/spin`, `/trap`, `/hog` and `/fail` do
//! what they say, `/fetch?AUTHORITY` gives another server's answer as it comes.
//!
//! Worlds: http3

use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme, Trailers};
use wasip3::wit_bindgen::{self, FutureReader, StreamReader};
use wasip3::{wit_future, wit_stream};

wasip3::http::service::export!(Service);

struct Service;

type Rest = FutureReader<Result<Option<Trailers>, ErrorCode>>;

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => Ok(text("hello from preview 3\n".to_owned())),
            "/echo" => {
                let (tell, read) = wit_future::new(|| Ok(()));
                drop(tell);
                let (body, trailers) = Request::consume_body(request, read);
                Ok(answer(Some(body), trailers))
            }
            "/stream" => Ok(stream(query.parse().unwrap_or(0))),
            "/sleep" => {
                let ms: u64 = query.parse().unwrap_or(0);
                monotonic_clock::wait_for(ms * 1_000_000).await;
                Ok(text("slept\n".to_owned()))
            }
            "/spin" => loop {
                std::hint::black_box(());
            },
            "/trap" => panic!("asked for"),
            "/hog" => {
                let mut all: Vec<Vec<u8>> = Vec::new();
                loop {
                    all.push(vec![1; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            "/fail" => Err(ErrorCode::InternalError(Some("asked for".to_owned()))),
            "/fetch" => fetch(query).await,
            _ => {
                let response = text("there is no such page\n".to_owned());
                response.set_status_code(404).expect("a status");
                Ok(response)
            }
        }
    }
}

fn answer(body: Option<StreamReader<u8>>, rest: Rest) -> Response {
    Response::new(Fields::new(), body, rest).0
}

fn no_trailers() -> Rest {
    let (tell, rest) = wit_future::new(|| Ok(None));
    drop(tell);
    rest
}

fn text(text: String) -> Response {
    let (mut to, body) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        to.write_all(text.into_bytes()).await;
    });
    answer(Some(body), no_trailers())
}

fn stream(kib: usize) -> Response {
    let (mut to, body) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        for _ in 0..kib {
            if !to.write_all(vec![b'x'; 1024]).await.is_empty() {
                return;
            }
        }
    });
    answer(Some(body), no_trailers())
}

async fn fetch(authority: &str) -> Result<Response, ErrorCode> {
    let (request, _) = Request::new(Fields::new(), None, no_trailers(), None);
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request
        .set_authority(Some(authority))
        .expect("an authority");
    request.set_path_with_query(Some("/")).expect("a path");
    let response = client::send(request).await?;
    let (tell, read) = wit_future::new(|| Ok(()));
    drop(tell);
    let (body, trailers) = Response::consume_body(response, read);
    Ok(answer(Some(body), trailers))
}
