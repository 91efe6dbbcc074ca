//! In a stock controller's place, before a router of ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use net::tls::{ALPN_CONTROL, ClientCertificate, server_config};
use netfault::proxy::{ControllerKeys, Way};
use pki::{Chain, Csr, Profile, validity};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use wire::control::{Settings, UpdateCtrlAddresses};
use wire::extension::{CertsResponse, ExtensionRequest};
use wire::hello::{Hello, HelloAnswer};
use wire::{Frame, content_type, header};

use super::{PATIENCE, Reader, Script, heartbeat_for, write};
use crate::fixture::Conversation;

/// A year: long enough that nothing is due.
const LEAF_LIFE: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);

/// The controller of a conversation, listening. Dropping it ends it.
#[derive(Debug)]
pub struct StandIn {
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    script: Mutex<Script>,
    first: Frame,
    further: Option<Frame>,
    keys: Arc<ControllerKeys>,
    port: u16,
    book: Mutex<Book>,
    changed: Condvar,
}

/// What the router did.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// How often it opened a channel.
    pub channels: u32,
    /// How often it joined a further underlay.
    pub further: u32,
    /// How many frames of each content type it sent.
    pub heard: BTreeMap<i32, u32>,
    /// Which of our requests it answered, with what.
    pub answered: BTreeMap<i32, i32>,
}

impl StandIn {
    /// Listens on this port of the loopback with a real controller's keys.
    ///
    /// # Errors
    /// When the port is taken, or nobody greets in the conversation.
    pub async fn listen(conversation: &Conversation, port: u16, keys: Arc<ControllerKeys>) -> Result<Self> {
        let channel = conversation.first_channel()?;
        let connections: Vec<u64> = channel.iter().map(|(hello, _)| hello.connection).collect();
        let mut answers = channel.iter().map(|(_, answer)| answer.frame.clone());
        let (first, further) = (answers.next().context("nobody opens a channel")?, answers.next());
        let script = Script::of(conversation, Way::ToRouter, &connections);
        let acceptor = TlsAcceptor::from(server_config(&keys.slot, ClientCertificate::Required, &[ALPN_CONTROL])?);
        let state = Arc::new(State {
            script: Mutex::new(script),
            first,
            further,
            keys,
            port,
            book: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("the port is taken")?;
        let serving = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    // What the router did counts; a broken connection shows in what it did not.
                    let _ = state.serve(stream, &acceptor).await;
                });
            }
        });
        Ok(Self { state, task })
    }

    /// Ends it, and gives its port back.
    pub async fn end(mut self) {
        self.task.abort();
        // Ends with the news that it was aborted.
        let _ = (&mut self.task).await;
    }

    /// Does the controller of this conversation group underlays?
    pub fn is_grouped(&self) -> bool {
        let answer = HelloAnswer::from_frame(&self.state.first);
        matches!(answer, Ok(HelloAnswer::Accepted(accepted)) if accepted.takes_further_underlays())
    }

    /// Which answers the router owes: the number of the request, and the type of its answer.
    pub fn owed(&self) -> BTreeMap<i32, i32> {
        locked(&self.state.script).owed.clone()
    }

    /// What the router did so far.
    pub fn book(&self) -> Book {
        locked(&self.state.book).clone()
    }

    /// Waits until the router has done enough.
    ///
    /// # Errors
    /// When that does not come; with what it did.
    pub fn until(&self, is_enough: impl Fn(&Book) -> bool) -> Result<Book> {
        let deadline = Instant::now() + PATIENCE;
        let mut book = locked(&self.state.book);
        while !is_enough(&book) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the router did only this: {book:?}");
            }
            book = self.state.changed.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(book.clone())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn note(&self, what: impl FnOnce(&mut Book)) {
        what(&mut locked(&self.book));
        self.changed.notify_all();
    }

    async fn serve(&self, stream: TcpStream, acceptor: &TlsAcceptor) -> Result<()> {
        let stream = acceptor.accept(stream).await?;
        let (from, mut to) = tokio::io::split(stream);
        let mut reader = Reader::new(from);
        let Some(hello) = reader.next().await? else { return Ok(()) };
        let parsed = Hello::from_frame(&hello)?;
        let router = parsed.id.clone();
        let is_further = parsed.group.as_ref().is_some_and(|group| !group.is_first);
        write(&mut to, &self.greeting(&hello, is_further)?).await?;
        if is_further {
            self.note(|book| book.further += 1);
        } else {
            self.note(|book| book.channels += 1);
            let unasked = locked(&self.script).unasked.clone();
            for frame in unasked {
                write(&mut to, &self.adjusted(frame)).await?;
            }
        }
        while let Some(live) = reader.next().await? {
            if let Some(beat) = heartbeat_for(&live) {
                write(&mut to, &beat).await?;
            }
            let answer = locked(&self.script).answer_to(&live);
            if let Some(answer) = answer {
                let answer = self.certified(answer, &live, &router)?;
                write(&mut to, &self.adjusted(answer)).await?;
            }
            self.note(|book| {
                *book.heard.entry(live.content_type).or_default() += 1;
                if let Some(request) = live.reply_for() {
                    book.answered.insert(request, live.content_type);
                }
            });
        }
        Ok(())
    }

    /// The answer to a hello, as captured; of the live connection are the type, and for a further underlay the group.
    fn greeting(&self, hello: &Frame, is_further: bool) -> Result<Frame> {
        let captured = self.further.as_ref().filter(|_| is_further).unwrap_or(&self.first);
        let mut answer = captured.clone();
        let keys: &[i32] =
            if is_further { &[header::TYPE, header::CONNECTION_ID, header::GROUP_SECRET] } else { &[header::TYPE] };
        for key in keys {
            match hello.headers.get(*key).filter(|_| answer.headers.contains(*key)) {
                Some(value) => answer.headers.insert(*key, value.clone()),
                None => continue,
            }
        }
        match HelloAnswer::from_frame(&answer)? {
            HelloAnswer::Accepted(_) => Ok(answer),
            HelloAnswer::Refused { text, .. } => bail!("the conversation begins with a refusal: {text}"),
        }
    }

    /// With the port where the router finds us.
    fn adjusted(&self, frame: Frame) -> Frame {
        let here = format!("tls:localhost:{}", self.port);
        let body = match frame.content_type {
            content_type::UPDATE_CTRL_ADDRESSES => UpdateCtrlAddresses::from_frame(&frame).ok().map(|mut update| {
                update.addresses.iter_mut().for_each(|address| address.clone_from(&here));
                // The others of a cluster are not here to be dialed.
                update
                    .controllers
                    .retain(|controller| self.first.headers.text(header::ID).is_none_or(|id| id == controller.id));
                let endpoints = update.controllers.iter_mut().flat_map(|controller| &mut controller.endpoints);
                endpoints.for_each(|endpoint| endpoint.address.clone_from(&here));
                update.to_frame().body
            }),
            content_type::SETTINGS => Settings::from_frame(&frame).ok().map(|mut settings| {
                settings.new_address = settings.new_address.map(|_| here.clone());
                settings.to_frame().body
            }),
            _ => None,
        };
        match body {
            Some(body) => Frame { body, ..frame },
            None => frame,
        }
    }

    /// 20301 with chains for the keys of the live 20302.
    fn certified(&self, answer: Frame, live: &Frame, router: &str) -> Result<Frame> {
        if answer.content_type != content_type::ENROLLMENT_CERTS {
            return Ok(answer);
        }
        let request = ExtensionRequest::from_frame(live)?;
        let now = lifecycle::UnixTime::from_ms(net::clock::wall_ms());
        let life = validity(now, LEAF_LIFE, self.keys.issuer.not_after())?;
        let sign = |csr: &str, profile| -> Result<Chain> {
            Ok(self.keys.issuer.issue(&Csr::from_pem(csr.as_bytes())?, router, profile, &life)?)
        };
        let captured = CertsResponse::from_frame(&answer)?;
        let certs = CertsResponse {
            client_chain_pem: sign(&request.client_csr_pem, Profile::Client)?.to_pem(),
            server_chain_pem: sign(&request.server_csr_pem, Profile::Server)?.to_pem(),
            ..captured
        };
        Ok(Frame { body: certs.to_frame().body, ..answer })
    }
}
