//! The smallest application: the command line and the processes of the server, around an `App` that
//! says hello. Shows the seam that `moonlitd` fills with requests and Lua; the process tests run it.
//!
//! `cargo run -p moonlit-server --example hello -- -p PREFIX -c nginx.conf`

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moonlit_server::app::{Accepted, App, AppFactory, Socket, WorkerInfo};
use moonlit_server::cli;
use moonlit_server::conf::ChunkCheck;
use moonlit_server::conf::model::{Config, Level};
use moonlit_server::log::Logs;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

struct Factory;

/// Answers each request with the process id; `/slow` waits a moment first, `/crash` aborts.
struct Hello {
    config: Arc<Config>,
    logs: Arc<Logs>,
    served: Cell<u64>,
}

/// A chunk is wrong when it has the word `syntax` in it.
struct Words;

impl ChunkCheck for Words {
    fn check(&mut self, source: &[u8], chunk_name: &str) -> Result<(), String> {
        if source.windows(6).any(|word| word == b"syntax") {
            let name = chunk_name.trim_start_matches(['=', '@']);
            return Err(format!("{name}:1: '=' expected near 'error'"));
        }
        Ok(())
    }
}

impl AppFactory for Factory {
    type App = Hello;

    fn prepare(&self, config: &Arc<Config>, logs: &Arc<Logs>, _: Option<&Hello>) -> Result<Hello, String> {
        Ok(Hello { config: config.clone(), logs: logs.clone(), served: Cell::new(0) })
    }

    fn chunk_check(&self) -> Box<dyn ChunkCheck> {
        Box::new(Words)
    }
}

impl Hello {
    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S, id: u64) {
        let mut request = vec![0; 4096];
        let Ok(read) = stream.read(&mut request).await else { return };
        let request = String::from_utf8_lossy(&request[..read]).into_owned();
        if request.starts_with("GET /crash") {
            std::process::abort();
        }
        if request.starts_with("GET /slow") {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        self.served.set(self.served.get() + 1);
        self.logs.error(&self.config.error_logs, Level::Info, Some(id), b"said hello");
        let body = format!("{}\n", std::process::id());
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body.as_bytes()).await;
    }
}

impl App for Hello {
    async fn start(self: Rc<Self>, worker: WorkerInfo) {
        let message = format!("hello from worker {} of {}", worker.id, worker.count);
        self.logs.error(&self.config.error_logs, Level::Notice, None, message.as_bytes());
    }

    async fn serve(self: Rc<Self>, accepted: Accepted) {
        match accepted.socket {
            Socket::Tcp(stream) => self.answer(stream, accepted.id).await,
            Socket::Unix(stream) => self.answer(stream, accepted.id).await,
        }
    }

    fn drain(&self) {}

    fn pending(&self) -> usize {
        0
    }

    async fn finish(self: Rc<Self>) {
        let message = format!("goodbye after {}", self.served.get());
        self.logs.error(&self.config.error_logs, Level::Notice, None, message.as_bytes());
    }
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    cli::run(&args, &Factory)
}
