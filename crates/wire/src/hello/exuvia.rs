//! What Exuvia's controllers and routers tell each other beyond OpenZiti, in headers that stock peers ignore.

use crate::frame::{Frame, Headers};
use crate::header;

/// Content type of [`RenewalAdvice`], Exuvia's own. A stock peer would log and drop it, so it is sent only to a peer
/// whose hello announced a version of abilities.
pub const RENEWAL_ADVICE: i32 = 21000;

/// Headers 21000–21003 of hello and answer. All absent from a stock peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExuviaAbilities {
    /// Version of these abilities; 1 today. Its presence says "Exuvia".
    pub version: Option<u32>,
    /// Answer: when the router should renew. Advice: it may move a renewal earlier, never later.
    pub window: Option<RenewalWindow>,
    /// Answer: number of the latest fleet-wide re-key. A router that has not obeyed this number yet renews now.
    pub renew_now: Option<u64>,
}

/// A stretch of time in which a router should renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalWindow {
    /// Not before this, unix seconds.
    pub from_unix_s: u64,
    /// Before this, unix seconds; never earlier than `from_unix_s`.
    pub to_unix_s: u64,
}

impl ExuviaAbilities {
    /// The version this crate speaks.
    pub const VERSION: u32 = 1;

    /// Announces version [`ExuviaAbilities::VERSION`] and nothing else.
    pub const fn announced() -> Self {
        Self { version: Some(Self::VERSION), window: None, renew_now: None }
    }

    /// Writes what is present.
    pub(super) fn write(self, headers: &mut Headers) {
        if let Some(version) = self.version {
            headers.set_u32(header::EXUVIA_VERSION, version);
        }
        write_advice(headers, self.window, self.renew_now);
    }

    /// Takes the headers out. What is malformed, or a window that ends before it begins, counts as absent.
    pub(super) fn take(headers: &mut Headers) -> Self {
        let (window, renew_now) = read_advice(headers);
        let abilities = Self { version: headers.u32(header::EXUVIA_VERSION), window, renew_now };
        for key in header::EXUVIA_VERSION..=header::EXUVIA_RENEW_NOW {
            headers.remove(key);
        }
        abilities
    }
}

/// The same advice on an open channel, so that an emergency re-key does not wait for reconnects. Needs no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenewalAdvice {
    /// As in [`ExuviaAbilities`].
    pub window: Option<RenewalWindow>,
    /// As in [`ExuviaAbilities`].
    pub renew_now: Option<u64>,
}

impl RenewalAdvice {
    /// The advice as a frame without a body.
    pub fn to_frame(self) -> Frame {
        let mut frame = Frame::new(RENEWAL_ADVICE, "");
        write_advice(&mut frame.headers, self.window, self.renew_now);
        frame
    }

    /// Reads advice; `None` if the frame is something else.
    pub fn from_frame(frame: &Frame) -> Option<Self> {
        let (window, renew_now) = read_advice(&frame.headers);
        (frame.content_type == RENEWAL_ADVICE).then_some(Self { window, renew_now })
    }
}

fn write_advice(headers: &mut Headers, window: Option<RenewalWindow>, renew_now: Option<u64>) {
    if let Some(RenewalWindow { from_unix_s, to_unix_s }) = window {
        headers.set_u64(header::EXUVIA_WINDOW_FROM, from_unix_s);
        headers.set_u64(header::EXUVIA_WINDOW_TO, to_unix_s);
    }
    if let Some(number) = renew_now {
        headers.set_u64(header::EXUVIA_RENEW_NOW, number);
    }
}

fn read_advice(headers: &Headers) -> (Option<RenewalWindow>, Option<u64>) {
    let window = match (headers.u64(header::EXUVIA_WINDOW_FROM), headers.u64(header::EXUVIA_WINDOW_TO)) {
        (Some(from_unix_s), Some(to_unix_s)) if from_unix_s <= to_unix_s => {
            Some(RenewalWindow { from_unix_s, to_unix_s })
        }
        _ => None,
    };
    (window, headers.u64(header::EXUVIA_RENEW_NOW))
}
