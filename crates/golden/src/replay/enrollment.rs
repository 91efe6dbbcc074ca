//! In a stock router's place while it enrolls, before a controller of ours.
//!
//! The request is sent as it was captured, but for what cannot be the same twice: the host, the token, the CSRs of the live keys, and the
//! length that follows from them. Compression is not asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use net::tls::{ServerTrust, client_config};
use pki::{PrivateKey, Sans, Subject, build_csr};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The whole head, as it came.
    pub head: String,
    /// What stands in it.
    pub body: Value,
}

impl Answer {
    /// Reads one.
    ///
    /// # Errors
    /// When it is no HTTP with JSON in it.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        let (head, body) = split(bytes)?;
        Ok(Self { head, body: serde_json::from_slice(body).context("the body is no JSON")? })
    }

    /// The names of what `data` holds.
    pub fn fields(&self) -> BTreeSet<String> {
        let data = self.body.get("data").and_then(Value::as_object);
        data.map(|data| data.keys().cloned().collect()).unwrap_or_default()
    }
}

/// Reads the answer in this file.
///
/// # Errors
/// When there is none.
pub fn captured(path: &Path) -> Result<Answer> {
    Answer::of(&fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?)
}

/// Enrolls as the router did whose request is in this file: with this one-time token, as router `id`, with this key.
///
/// # Errors
/// When the file is no such request, or nobody answers.
pub async fn ask(path: &Path, port: u16, token: &str, id: &str, key: &PrivateKey) -> Result<Answer> {
    let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let (head, body) = split(&bytes)?;
    let mut asked: Value = serde_json::from_slice(body).context("the body is no JSON")?;
    let sans = Sans { dns: vec!["localhost".to_owned()], ..Sans::default() };
    let csr = build_csr(key, &Subject::common_name(id)?, &sans)?;
    for value in asked.as_object_mut().context("the body is no object")?.values_mut() {
        ensure!(
            value.as_str().is_some_and(|text| text.contains("CERTIFICATE REQUEST")),
            "more than CSRs are asked for"
        );
        *value = Value::String(csr.clone());
    }
    let body = serde_json::to_vec(&asked)?;
    let mut lines = Vec::new();
    for line in head.lines() {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        lines.push(match name.as_str() {
            "host" => format!("Host: localhost:{port}"),
            "content-length" => format!("Content-Length: {}", body.len()),
            "accept-encoding" => "Connection: close".to_owned(),
            _ => match line.split_once("token=") {
                Some((before, after)) => {
                    let end = after.find(['&', ' ']).unwrap_or(after.len());
                    format!("{before}token={token}{}", after.get(end..).unwrap_or_default())
                }
                None => line.to_owned(),
            },
        });
    }
    let request = [lines.join("\r\n").as_bytes(), b"\r\n\r\n", &body].concat();
    let connector = TlsConnector::from(client_config(&ServerTrust::learn(), None, &[b"http/1.1"])?);
    let stream = TcpStream::connect(("127.0.0.1", port)).await.context("nobody listens")?;
    let mut stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    // A server that closes without TLS's own farewell has still said everything.
    let _ = stream.read_to_end(&mut answer).await;
    Answer::of(&answer)
}

fn split(bytes: &[u8]) -> Result<(String, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("the head does not end")?;
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    Ok((head, bytes.get(end + 4..).unwrap_or_default()))
}
