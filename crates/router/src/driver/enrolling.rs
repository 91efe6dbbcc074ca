//! An enrollment that somebody hands to the running daemon, because the daemon holds the lock.
//!
//! The machine is paused meanwhile: no renewal begins between the keys and the leaves.

use std::sync::Arc;

use lifecycle::renewal::Input;
use lifecycle::{GenerationNumber, recovery};
use tokio::sync::oneshot;
use tokio::task::block_in_place;
use zeroize::Zeroizing;

use super::{Driver, Incoming, remember_admissions};
use crate::admin::Answer;
use crate::clock;
use crate::commit::chain_text;
use crate::enroll::{self, EnrollError, EnrollmentNews, Introduction};

/// The one enrollment that is under way.
#[derive(Debug)]
pub(super) struct Enrolling {
    reply: oneshot::Sender<Answer>,
    introduction: Option<Arc<Introduction>>,
    number: Option<GenerationNumber>,
}

impl Enrolling {
    /// Are its keys made, and its leaves not there yet?
    pub(super) fn has_keys(&self) -> bool {
        self.number.is_some()
    }
}

impl Driver {
    pub(super) fn enroll(&mut self, token: Zeroizing<String>, _force: bool, reply: oneshot::Sender<Answer>) {
        if self.enrolling.is_some() {
            let _ = reply.send(Answer::failed("another enrollment is under way", "wait for it to end"));
            return;
        }
        self.enrolling = Some(Enrolling { reply, introduction: None, number: None });
        let sender = self.parts.sender.clone();
        tokio::spawn(async move {
            let introduced = enroll::introduce(&token).await.map(Arc::new);
            let _ = sender.send(Incoming::Enrollment(EnrollmentNews::Introduced(introduced))).await;
        });
    }

    pub(super) fn enrollment_news(&mut self, news: EnrollmentNews) {
        let ended = match news {
            EnrollmentNews::Introduced(introduced) => introduced.and_then(|by| self.introduced(&by)).map(|()| false),
            EnrollmentNews::Answered(answered) => answered.and_then(|leaves| self.enrolled(&leaves)).map(|()| true),
        };
        let answer = match ended {
            Ok(false) => return,
            Ok(true) => Answer::Done,
            Err(error) => Answer::failed(&chain_text(&error), error.hint()),
        };
        if let Some(enrolling) = self.enrolling.take() {
            let _ = enrolling.reply.send(answer);
        }
    }

    fn introduced(&mut self, introduction: &Arc<Introduction>) -> Result<(), EnrollError> {
        let router = &self.parts.settings.router;
        if introduction.token.router != *router {
            return Err(EnrollError::OtherRouter {
                path: "the running router's identity".to_owned(),
                found: router.to_string(),
                wanted: introduction.token.router.clone(),
            });
        }
        let manifest = self.parts.renewal.manifest().clone();
        let custody = &mut self.parts.custody;
        let rekey = custody.making().rekey;
        let number = block_in_place(|| enroll::begin(custody, manifest, rekey, None))?;
        let requests = enroll::requests(custody, number, router, &self.parts.settings.csr)?;
        // The machine learns of the attempt; should the enrollment fail, the same keys serve the next renewal.
        self.start_over();
        if let Some(enrolling) = &mut self.enrolling {
            enrolling.introduction = Some(introduction.clone());
            enrolling.number = Some(number);
        }
        let (introduction, sender) = (introduction.clone(), self.parts.sender.clone());
        tokio::spawn(async move {
            let answered = introduction.post(&requests).await;
            let _ = sender.send(Incoming::Enrollment(EnrollmentNews::Answered(answered))).await;
        });
        Ok(())
    }

    fn enrolled(&mut self, leaves: &enroll::Enrollment) -> Result<(), EnrollError> {
        let number = self.enrolling.as_ref().and_then(|enrolling| enrolling.number).ok_or(EnrollError::Overtaken)?;
        let custody = &mut self.parts.custody;
        // The manifest on disk names the attempt; the machine's is from before.
        let manifest = custody.store().manifest().cloned().ok_or(EnrollError::Overtaken)?;
        if manifest.attempt.is_none_or(|attempt| attempt.number != number) {
            return Err(EnrollError::Overtaken);
        }
        let router = &self.parts.settings.router;
        block_in_place(|| enroll::finish(custody, manifest, number, router, leaves))?;
        let _ = std::fs::remove_file(&self.parts.settings.data_model_cache);
        // Lines present what the new machine chooses; channels of the old enrollment were closed by the controller.
        self.start_over();
        Ok(())
    }

    /// A new machine from what the disk says, and from what was admitted meanwhile.
    fn start_over(&mut self) {
        let Some(mut found) = self.reload() else { return };
        remember_admissions(&mut found.manifest, self.parts.renewal.manifest());
        if let Some(renewal) = recovery::recover(clock::now(), self.parts.settings.policy, found) {
            self.parts.renewal = renewal;
            self.advance(Input::Started { controllers: self.parts.directory.contacts() });
        }
    }
}
