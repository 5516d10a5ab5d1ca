//! A cloud service with a login, on a port of its own: what it answers can be changed while it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the token endpoint does.
#[derive(Clone)]
pub enum Login {
    /// New tokens, `aN` and `rN`, that live so many seconds.
    Gives(u64),
    /// The same after a while.
    Slow(u64, Duration),
    Error(&'static str),
    /// `invalid_grant` for `r0`, and just before that somebody puts another refresh token into this file; new tokens for it.
    Replaced(PathBuf),
    Status(u16),
    /// To another address.
    Redirect(SocketAddr),
    /// It takes the request and says nothing.
    Hangs,
    /// So many bytes of an answer.
    Endless(usize),
}

#[derive(Default)]
pub struct Seen {
    /// Bodies of the token requests, in their order.
    pub refreshes: Vec<String>,
    /// Target, `Authorization` and body of the other requests.
    pub calls: Vec<(String, String, String)>,
    given: usize,
}

pub struct Cloud {
    pub address: SocketAddr,
    pub login: Arc<Mutex<Login>>,
    pub seen: Arc<Mutex<Seen>>,
    /// The only token that opens it; without one, the last that the login has given.
    pub opens: Arc<Mutex<Option<String>>>,
}

struct Request {
    target: String,
    authorization: String,
    body: String,
}

impl Cloud {
    pub fn start(login: Login) -> Cloud {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cloud = Cloud {
            address: listener.local_addr().unwrap(),
            login: Arc::new(Mutex::new(login)),
            seen: Arc::default(),
            opens: Arc::default(),
        };
        let (login, seen, opens) = (cloud.login.clone(), cloud.seen.clone(), cloud.opens.clone());
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (login, seen, opens) = (login.clone(), seen.clone(), opens.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&tcp) else { return };
                    // Whoever asked may be gone.
                    let _ = match request.target.as_str() {
                        "/token" => answer_login(tcp, &request, &login, &seen),
                        _ => answer(tcp, request, &seen, &opens),
                    };
                });
            }
        });
        cloud
    }

    pub fn login(&self, login: Login) {
        *self.login.lock().unwrap() = login;
    }

    pub fn refreshes(&self) -> usize {
        self.seen.lock().unwrap().refreshes.len()
    }

    /// The one that the login has given last.
    pub fn last_refresh_token(&self) -> String {
        format!("r{}", self.seen.lock().unwrap().given)
    }

    pub fn calls(&self) -> Vec<(String, String, String)> {
        self.seen.lock().unwrap().calls.clone()
    }
}

fn read(tcp: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(tcp);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        let (name, value) = line.trim_end().split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = value.to_owned(),
            "content-length" => length = value.parse().ok()?,
            "transfer-encoding" => return None, // nothing here sends one
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { target, authorization, body: String::from_utf8(body).ok()? })
}

fn say(mut tcp: &TcpStream, status: u16, fields: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(tcp, "HTTP/1.1 {status} X\r\n{fields}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn answer_login(tcp: TcpStream, request: &Request, login: &Mutex<Login>, seen: &Mutex<Seen>) -> std::io::Result<()> {
    seen.lock().unwrap().refreshes.push(request.body.clone());
    let behaviour = login.lock().unwrap().clone();
    let given = |lifetime_s: u64| {
        let mut seen = seen.lock().unwrap();
        seen.given += 1;
        let number = seen.given;
        format!("{{\"access_token\":\"a{number}\",\"refresh_token\":\"r{number}\",\"expires_in\":{lifetime_s}}}")
    };
    match behaviour {
        Login::Gives(lifetime_s) => say(&tcp, 200, "", &given(lifetime_s)),
        Login::Slow(lifetime_s, pause) => {
            std::thread::sleep(pause); // this is how it behaves
            say(&tcp, 200, "", &given(lifetime_s))
        }
        Login::Error(word) => say(&tcp, 400, "", &format!("{{\"error\":\"{word}\"}}")),
        Login::Replaced(file) if request.body.ends_with("refresh_token=r0") => {
            std::fs::write(file, "{\"refresh_token\":\"connected-meanwhile\"}")?;
            say(&tcp, 400, "", "{\"error\":\"invalid_grant\"}")
        }
        Login::Replaced(_) => say(&tcp, 200, "", &given(3600)),
        Login::Status(status) => say(&tcp, status, "", ""),
        Login::Redirect(to) => say(&tcp, 307, &format!("location: http://{to}/token\r\n"), ""),
        Login::Hangs => (&tcp).read_to_end(&mut Vec::new()).map(drop), // until the gateway has had enough
        Login::Endless(bytes) => say(&tcp, 200, "", &format!("{{\"access_token\":\"{}\"}}", "a".repeat(bytes))),
    }
}

fn answer(tcp: TcpStream, request: Request, seen: &Mutex<Seen>, opens: &Mutex<Option<String>>) -> std::io::Result<()> {
    let Request { target, authorization, body } = request;
    let last = {
        let mut seen = seen.lock().unwrap();
        seen.calls.push((target.clone(), authorization.clone(), body));
        format!("a{}", seen.given)
    };
    let opens = opens.lock().unwrap().clone().unwrap_or(last);
    if let Some(to) = target.strip_prefix("/away/") {
        return say(&tcp, 307, &format!("location: http://{to}/\r\n"), "");
    }
    if let Some(bytes) = target.strip_prefix("/large/") {
        return say(&tcp, 200, "", &"x".repeat(bytes.parse().unwrap()));
    }
    if target == "/silent" {
        return (&tcp).read_to_end(&mut Vec::new()).map(drop);
    }
    match authorization == format!("Bearer {opens}") {
        true => say(&tcp, 200, "set-cookie: sid=1\r\n", "opened"),
        false => say(&tcp, 401, "www-authenticate: Bearer\r\nset-cookie: sid=1\r\n", "who?"),
    }
}
