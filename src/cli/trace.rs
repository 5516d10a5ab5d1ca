//! `gatewright trace`: follows live requests over the admin interface, shows those that failed last, or prints what
//! was saved. Ends with Ctrl-C.

mod print;
mod saved;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::TcpStream;

use self::saved::SavedFilter;
use super::{ConfigArgument, FAILED, INVALID, OK, WRONG_USAGE, say, show};
use crate::compile::filter::filter;
use crate::config;

/// Bytes of an answer that is no trace.
const REFUSAL_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one line that is taken; the gateway sends shorter ones.
const LINE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct TraceArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Address of the admin interface, in the place of the one that the configuration names.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "read")]
    admin: Option<SocketAddr>,
    /// Only requests for which this condition holds at their end: `fault.code == 'route.connect'`.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Shows the last requests that were denied or broke, and ends.
    #[arg(long, conflicts_with = "read")]
    failed: bool,
    /// Ends after so many requests.
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Prints the lines as they come: JSON.
    #[arg(long)]
    json: bool,
    /// Writes the lines to a file too.
    #[arg(long, value_name = "FILE", conflicts_with = "read")]
    save: Option<PathBuf>,
    /// Prints a saved file; needs no gateway.
    #[arg(long, value_name = "FILE")]
    read: Option<PathBuf>,
}

/// Why the command ends early: what to say, and the exit code.
struct Stopped(String, u8);

impl Stopped {
    fn failed(why: impl Into<String>) -> Stopped {
        Stopped(why.into(), FAILED)
    }
}

pub(super) fn trace(arguments: &TraceArguments) -> u8 {
    match follow(arguments) {
        Ok(()) => OK,
        Err(Stopped(why, code)) => {
            eprintln!("{}", why.trim_end());
            code
        }
    }
}

fn follow(arguments: &TraceArguments) -> Result<(), Stopped> {
    let compiled = match &arguments.filter {
        Some(text) => Some(filter(text).map_err(|mistakes| Stopped(mistakes.text.clone(), WRONG_USAGE))?),
        None => None,
    };
    let mut shown = Shown { arguments, filter: None, file: None, requests: 0 };
    if arguments.read.is_some() || arguments.failed {
        let saved = compiled.map(SavedFilter::new).transpose().map_err(|why| Stopped(why, WRONG_USAGE))?;
        shown.filter = saved;
    }
    if let Some(file) = &arguments.read {
        return read(file, &mut shown);
    }
    if let Some(path) = &arguments.save {
        let file = File::create(path).map_err(|error| {
            Stopped::failed(format!("{}: {error}; name a file that can be written", path.display()))
        })?;
        shown.file = Some(file);
    }
    let address = address(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stopped::failed(format!("the system gives no event loop: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            result = receive(address, &mut shown) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

fn address(arguments: &TraceArguments) -> Result<SocketAddr, Stopped> {
    if let Some(address) = arguments.admin {
        return Ok(address);
    }
    let loaded = config::load(arguments.config.config.as_deref());
    match loaded.config {
        Some(config) => Ok(config.admin),
        None => {
            show(&loaded.sources, &loaded.diags);
            Err(Stopped("the configuration does not load; `--admin ADDRESS` goes without it".into(), INVALID))
        }
    }
}

fn read(path: &Path, shown: &mut Shown<'_>) -> Result<(), Stopped> {
    let unreadable = |error| Stopped::failed(format!("{}: {error}; name a file made by `--save`", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    for line in BufReader::new(file).lines() {
        if !shown.line(&line.map_err(unreadable)?)? {
            break;
        }
    }
    Ok(())
}

/// Asks the gateway and shows every line, until it ends or enough was shown.
async fn receive(address: SocketAddr, shown: &mut Shown<'_>) -> Result<(), Stopped> {
    let lost = |error: hyper::Error| {
        Stopped::failed(format!("the gateway at {address} ended the trace: {error}; see its log, and begin anew"))
    };
    let mut body = ask(address, shown.arguments).await?.into_body();
    if !shown.arguments.failed {
        eprintln!("following requests at {address}; Ctrl-C ends it");
    }
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(lost)?.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = memchr::memchr(b'\n', &pending) {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if !shown.line(&String::from_utf8_lossy(&line))? {
                return Ok(());
            }
        }
        if pending.len() > LINE_BYTES_MAX {
            return Err(Stopped::failed(format!("{address} sends no trace; is it the admin address of a gateway?")));
        }
    }
    match shown.arguments.failed {
        true => Ok(()),
        false => Err(Stopped::failed("the gateway ended the trace: it stopped, or this end read too slowly")),
    }
}

async fn ask(address: SocketAddr, arguments: &TraceArguments) -> Result<Response<Incoming>, Stopped> {
    let path = match (&arguments.filter, arguments.failed) {
        (_, true) => "/api/trace/failed".to_owned(),
        (Some(filter), false) => format!("/api/trace?filter={}", encoded(filter)),
        (None, false) => "/api/trace".to_owned(),
    };
    let tcp = TcpStream::connect(address).await.map_err(|error| {
        let help = "start it with `gatewright run`, or name its admin address with `--admin` or its gateway.yaml with \
                    `--config`";
        Stopped::failed(format!("no gateway answers at {address}: {error}\n{help}"))
    })?;
    let strange = |error| Stopped::failed(format!("what answers at {address} is no gateway: {error}; see `admin:`"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(strange)?;
    // It ends with the runtime; what goes wrong there shows in the body.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| Stopped(format!("the filter cannot be sent: {error}; shorten it"), WRONG_USAGE))?;
    let answer = sender.send_request(request).await.map_err(strange)?;
    if answer.status() == StatusCode::OK {
        return Ok(answer);
    }
    let status = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let body = body.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
    let text = match serde_json::from_slice::<Json>(&body) {
        Ok(json) => json.get("text").and_then(Json::as_str).unwrap_or_default().to_owned(),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let code = if status == StatusCode::BAD_REQUEST { WRONG_USAGE } else { FAILED };
    Err(Stopped(format!("the gateway at {address} refuses ({status}): {text}"), code))
}

/// A filter as a query parameter: everything but letters and digits is escaped.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Where lines go.
struct Shown<'a> {
    arguments: &'a TraceArguments,
    /// Where the gateway has not filtered.
    filter: Option<SavedFilter>,
    file: Option<File>,
    requests: u64,
}

impl Shown<'_> {
    /// Shows one line; false when there were enough.
    fn line(&mut self, line: &str) -> Result<bool, Stopped> {
        let line = line.trim_end();
        let Ok(json) = serde_json::from_str::<Json>(line) else {
            return Err(Stopped::failed("a line is no trace; name a file that `--save` has made"));
        };
        let is_request = json.get("record").is_some();
        if is_request && self.filter.as_ref().is_some_and(|filter| !filter.holds(&json)) {
            return Ok(true);
        }
        if let Some(file) = &mut self.file {
            let written = writeln!(file, "{line}");
            written.map_err(|error| Stopped::failed(format!("the file cannot be written: {error}; free some room")))?;
        }
        match self.arguments.json {
            true => say(&format!("{line}\n")),
            false => say(&print::request(&json)),
        }
        self.requests += u64::from(is_request);
        Ok(self.arguments.count.is_none_or(|count| self.requests < count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_its_way_through_a_query() {
        let text = "request.path == '/a b' && x + 1 > \"ä%\"";
        let query = format!("filter={}", encoded(text));
        let pairs: Vec<_> = crate::engine::message::pairs(&query).collect();
        assert_eq!((pairs[0].0.as_ref(), pairs[0].1.as_ref()), ("filter", text));
    }
}
