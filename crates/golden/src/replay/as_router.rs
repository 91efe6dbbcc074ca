//! In a stock router's place, before a controller of ours.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use net::tls::{ALPN_CONTROL, ServerTrust, client_config};
use netfault::proxy::Way;
use pki::{Chain, PrivateKey, Sans, Subject, build_csr};
use rustls::sign::CertifiedKey;
use rustls_pki_types::ServerName;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::hello::{AcceptedHello, HelloAnswer};
use wire::{Frame, content_type, header};

use super::{PATIENCE, Reader, Script, heartbeat_for, write};
use crate::fixture::{Captured, Conversation};

/// Number of the question that ends a replay; no captured frame has it.
const LAST_QUESTION: i32 = 1_000_000;

/// Who plays: a router that the controller has enrolled.
#[derive(Debug)]
pub struct Player {
    /// Its id.
    pub id: String,
    /// Its first client chain.
    pub chain: Chain,
    /// Its key, also that of its next leaves.
    pub key: PrivateKey,
}

/// What the controller did.
#[derive(Debug, Default)]
pub struct Told {
    /// How many frames of each content type it sent.
    pub heard: BTreeMap<i32, u32>,
    /// Which of our requests it answered, with what.
    pub answered: BTreeMap<i32, i32>,
    /// Which it owed, by the conversation.
    pub owed: BTreeMap<i32, i32>,
    /// The renewed client chain, if it was confirmed.
    pub renewed: Option<Chain>,
    /// How many further underlays were admitted with it.
    pub further: u32,
}

/// One connection.
struct Line {
    reader: Reader<ReadHalf<TlsStream<TcpStream>>>,
    to: WriteHalf<TlsStream<TcpStream>>,
    accepted: AcceptedHello,
}

impl Player {
    /// Plays the first channel of the conversation to the controller at this address.
    ///
    /// # Errors
    /// When the controller refuses, closes, or does not do in time what it owes.
    pub async fn play(&self, conversation: &Conversation, at: SocketAddr) -> Result<Told> {
        let channel = conversation.first_channel()?;
        let connections: Vec<u64> = channel.iter().map(|(hello, _)| hello.connection).collect();
        let mut hellos = channel.iter().map(|(hello, _)| *hello);
        let first = hellos.next().context("nobody opens a channel")?;
        let further: Vec<&Captured> = hellos.collect();
        let mut script = Script::of(conversation, Way::ToController, &connections);
        let mut told = Told { owed: script.owed.clone(), ..Told::default() };
        let mut line = self.connect(at, &self.chain, &first.frame, None).await?;
        for frame in script.unasked.clone() {
            write(&mut line.to, &self.renewing(frame)?).await?;
        }
        let is_renewal = script.unasked.iter().any(|frame| frame.content_type == content_type::EXTENSION_REQUEST);
        let all_done = self.listen(&mut line, &mut script, &mut told, is_renewal);
        let outcome = timeout(PATIENCE, all_done).await;
        match outcome {
            Ok(done) => done?,
            Err(_) => bail!("the controller did only this: {told:?}"),
        }
        let chain = told.renewed.as_ref().unwrap_or(&self.chain);
        let mut question = wire::outcome::ping();
        question.sequence = LAST_QUESTION;
        let group = line.accepted.clone();
        let mut waits = tokio::task::JoinSet::new();
        for hello in further {
            let underlay = self.connect(at, chain, &hello.frame, Some(&group)).await?;
            waits.spawn(until_answered(underlay));
            told.further += 1;
        }
        // It is the same channel still. The answer may come on any underlay.
        write(&mut line.to, &question).await?;
        waits.spawn(until_answered(line));
        let answered = timeout(PATIENCE, waits.join_next()).await.context("the channel is dead")?;
        answered.context("nobody listens")???;
        drop(waits);
        if let (Some(chain), 0) = (&told.renewed, told.further) {
            // Without groups the next channel is the first use of the new leaf.
            let _admitted = self.connect(at, chain, &first.frame, None).await?;
        }
        Ok(told)
    }

    async fn listen(&self, line: &mut Line, script: &mut Script, told: &mut Told, is_renewal: bool) -> Result<()> {
        let mut pending = None;
        loop {
            let is_answered = told.owed.keys().all(|request| told.answered.contains_key(request));
            if is_answered && (told.renewed.is_some() || !is_renewal) {
                return Ok(());
            }
            let Some(live) = line.reader.next().await? else { bail!("the controller has closed: {told:?}") };
            if let Some(beat) = heartbeat_for(&live) {
                write(&mut line.to, &beat).await?;
            }
            *told.heard.entry(live.content_type).or_default() += 1;
            if let Some(request) = live.reply_for() {
                told.answered.insert(request, live.content_type);
            }
            match live.content_type {
                content_type::ENROLLMENT_CERTS => pending = Some(CertsResponse::from_frame(&live)?),
                content_type::ERROR => {
                    let answer = ErrorAnswer::from_frame(&live)?;
                    let certs = pending.take().filter(|_| answer.is_success());
                    let certs = certs.with_context(|| format!("the renewal is refused: {answer:?}"))?;
                    told.renewed = Some(Chain::from_pem(certs.client_chain_pem.as_bytes())?);
                }
                _ => {}
            }
            if let Some(mut answer) = script.answer_to(&live) {
                if let (content_type::EXTENSION_VERIFY, Some(certs)) = (answer.content_type, &pending) {
                    let verify = ExtensionVerify { client_chain_pem: certs.client_chain_pem.clone() };
                    answer.body = verify.to_frame().body;
                }
                write(&mut line.to, &answer).await?;
            }
        }
    }

    /// 20302 with CSRs of the live key.
    fn renewing(&self, frame: Frame) -> Result<Frame> {
        if frame.content_type != content_type::EXTENSION_REQUEST {
            return Ok(frame);
        }
        let captured = ExtensionRequest::from_frame(&frame)?;
        let sans = Sans { dns: vec!["localhost".to_owned()], ..Sans::default() };
        let csr = build_csr(&self.key, &Subject::common_name(&self.id)?, &sans)?;
        let request = ExtensionRequest { client_csr_pem: csr.clone(), server_csr_pem: csr, ..captured };
        Ok(Frame { body: request.to_frame().body, ..frame })
    }

    /// Presents this chain and says this hello, in our name.
    async fn connect(
        &self,
        at: SocketAddr,
        chain: &Chain,
        hello: &Frame,
        group: Option<&AcceptedHello>,
    ) -> Result<Line> {
        let signing = net::tls::provider().key_provider.load_private_key(self.key.to_rustls()?)?;
        let presents = Arc::new(CertifiedKey::new(chain.to_rustls(), signing));
        let connector = TlsConnector::from(client_config(&ServerTrust::learn(), Some(presents), &[ALPN_CONTROL])?);
        let stream = TcpStream::connect(at).await.context("nobody listens")?;
        let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        let (from, mut to) = tokio::io::split(stream);
        let mut reader = Reader::new(from);
        let mut hello = Frame { body: self.id.clone().into(), ..hello.clone() };
        if let Some(group) = group {
            hello.headers.set_text(header::CONNECTION_ID, group.connection_id.as_deref().unwrap_or_default());
            hello.headers.insert(header::GROUP_SECRET, group.secret.clone().unwrap_or_default());
        }
        write(&mut to, &hello).await?;
        let answer = timeout(PATIENCE, reader.next()).await.context("a hello is not answered")??;
        let answer = answer.context("a hello is answered with an end")?;
        match HelloAnswer::from_frame(&answer)? {
            HelloAnswer::Accepted(accepted) => Ok(Line { reader, to, accepted: *accepted }),
            HelloAnswer::Refused { text, .. } => bail!("a hello is refused: {text}"),
        }
    }
}

/// Reads until the answer to the last question comes.
async fn until_answered(mut line: Line) -> Result<()> {
    while let Some(live) = line.reader.next().await? {
        if live.reply_for() == Some(LAST_QUESTION) {
            return Ok(());
        }
    }
    bail!("the controller has closed")
}
