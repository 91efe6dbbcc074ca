//! Following what happens, as server-sent events.

use std::path::Path;
use std::time::Duration;

use api::Operation;
use api::native::EventView;
use http_body_util::BodyExt as _;

use super::client::Client;
use super::reports::printable;
use crate::args::Events;
use crate::exit::{Exit, Failure};
use crate::output::Printer;
use crate::words;

/// Longest line of the stream.
const LINE_BYTES_MAX: usize = 1 << 20;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// `exuvia fleet events`.
pub(super) async fn events(printer: Printer, file: &Path, args: &Events) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let id = match &args.router {
        Some(router) => Some(client.find(router).await?.id),
        None => None,
    };
    let mut left = args.count;
    let mut pause = PAUSE_MIN;
    let mut was_open = false;
    loop {
        let query: Vec<(&str, &str)> = id.iter().map(|id| ("router", id.as_str())).collect();
        match client.open(Operation::Events, &query).await {
            Ok((connection, response)) => {
                printer.note(if was_open { "connected again" } else { "connected; Ctrl-C ends it" });
                (was_open, pause) = (true, PAUSE_MIN);
                let mut body = response.into_body();
                let mut lines = Lines::default();
                // Any end of the stream is answered in the same way: by connecting again.
                while let Some(Ok(frame)) = body.frame().await {
                    for event in lines.feed(frame.data_ref().map_or(&[][..], |data| data)) {
                        show(printer, args.json, &event)?;
                        left = left.map(|left| left - 1);
                        if left == Some(0) {
                            return Ok(());
                        }
                    }
                }
                drop(connection);
            }
            Err(failure) if was_open && failure.exit == Exit::Unreachable => {}
            Err(failure) => return Err(failure),
        }
        printer.warning(&format!("the stream broke off; connecting again in {}", words::span(pause)));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn show(printer: Printer, is_json: bool, event: &EventView) -> Result<(), Failure> {
    if is_json {
        return printer.json_line(event);
    }
    let at = words::exactly(event.at_unix_ms.div_euclid(1000));
    let router = event.router_id.as_deref().map_or(String::new(), |id| format!(" router {}", printable(id)));
    let leaf = event.leaf_seq.map_or(String::new(), |leaf| format!(" leaf {leaf}"));
    let detail = event.detail.as_deref().map_or(String::new(), |detail| format!(": {}", printable(detail)));
    printer.data(&format!("{at} {}{router}{leaf}{detail}", event.kind))
}

/// What was received and does not end with a line break yet.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The events that these bytes complete. Each of ours is one `data:` line; everything else is passed over.
    fn feed(&mut self, bytes: &[u8]) -> Vec<EventView> {
        self.0.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            let data = line.trim_ascii_end().strip_prefix(b"data:");
            events.extend(data.and_then(|data| serde_json::from_slice(data).ok()));
        }
        if self.0.len() > LINE_BYTES_MAX {
            self.0.clear();
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn an_event_may_arrive_in_any_pieces() {
        let stream = b": connected\n\nid: 7\nevent: issued\ndata: {\"seq\":7,\"at_unix_ms\":0,\"kind\":\"issued\"}\n\n";
        for cut in 0..stream.len() {
            let mut lines = Lines::default();
            let (first, second) = stream.split_at(cut);
            let mut events = lines.feed(first);
            events.extend(lines.feed(second));
            assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [7], "cut at {cut}");
        }
    }
}
