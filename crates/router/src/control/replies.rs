//! What a router that only stays connected answers to everything that a controller may ask.
//!
//! Nothing here is needed for a renewal; a stock controller is kept from retrying and from calling the router unhealthy.
//! Source: the tables in `openziti/ziti:router/handler_ctrl/bind.go`, `openziti/ziti:router/handler_edge_ctrl`.

use wire::control::{
    InspectRequest, InspectResponse, Route, RouteResult, RouterLinks, ValidateTerminatorsV2, route_failure,
};
use wire::edge::{ClientHello, ServerHello};
use wire::outcome::Outcome;
use wire::{Frame, content_type};

/// What an edge router says of itself.
#[derive(Clone, Debug, Default)]
pub struct AboutUs {
    /// Such as `v2.1.0`.
    pub version: String,
    /// This machine's name.
    pub hostname: String,
}

/// What goes out first on a new channel: there are no links, whatever the controller remembers.
pub(super) fn first_words() -> Vec<Frame> {
    vec![RouterLinks { links: Vec::new(), is_full_refresh: true }.to_frame()]
}

/// The reply to a question; `None` for what needs none. `controllers` is the JSON that an inspection shows.
pub(super) fn reply_to(frame: &Frame, about: &AboutUs, controllers: impl FnOnce() -> String) -> Option<Frame> {
    match frame.content_type {
        content_type::INSPECT_REQUEST => {
            let request = InspectRequest::from_frame(frame).ok()?;
            Some(inspected(&request, controllers()).to_reply(frame))
        }
        content_type::VALIDATE_TERMINATORS_V2_REQUEST => {
            let request = ValidateTerminatorsV2::from_frame(frame).ok()?;
            Some(request.none_known().to_reply(frame))
        }
        content_type::ROUTE => {
            let route = Route::from_frame(frame).ok()?;
            let text = "this router carries no circuits";
            Some(RouteResult::refused(&route, route_failure::GENERIC, text).to_reply(frame))
        }
        content_type::SERVER_HELLO => {
            ServerHello::from_frame(frame).ok()?;
            let hello = ClientHello {
                version: about.version.clone(),
                hostname: about.hostname.clone(),
                ..ClientHello::default()
            };
            Some(hello.to_reply(frame))
        }
        content_type::TOGGLE_PIPE_TRACES => Some(Outcome::failure("this router traces nothing").to_reply(frame)),
        // Other routers, circuits, sessions and the data model concern nobody here.
        _ => None,
    }
}

fn inspected(request: &InspectRequest, controllers: String) -> InspectResponse {
    let mut values = Vec::new();
    for name in &request.names {
        match name.to_ascii_lowercase().as_str() {
            "links" => values.push((name.clone(), r#"{"links":[]}"#.to_owned())),
            "router-controllers" => values.push((name.clone(), controllers.clone())),
            "router-circuits" | "router-edge-circuits" | "router-sdk-circuits" => {
                values.push((name.clone(), r#"{"circuits":{}}"#.to_owned()));
            }
            // Unknown names are left out, as in OpenZiti.
            _ => {}
        }
    }
    InspectResponse { is_success: true, errors: Vec::new(), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(frame: &Frame) -> Option<Frame> {
        reply_to(frame, &AboutUs::default(), || "{}".to_owned())
    }

    #[test]
    fn an_inspection_leaves_unknown_names_out() {
        let names = vec!["Links".to_owned(), "stackdump".to_owned()];
        let mut frame = InspectRequest { names }.to_frame();
        frame.sequence = 7;
        let reply = ask(&frame).unwrap();
        assert_eq!(reply.reply_for(), Some(7));
        let response = InspectResponse::from_frame(&reply).unwrap();
        assert!(response.is_success);
        assert_eq!(response.values, [("Links".to_owned(), r#"{"links":[]}"#.to_owned())]);
    }

    #[test]
    fn a_route_is_refused_rather_than_ignored() {
        let mut frame = Route { circuit_id: "c".to_owned(), ..Route::default() }.to_frame();
        frame.sequence = 3;
        let reply = ask(&frame).unwrap();
        assert_eq!(reply.content_type, content_type::ROUTE_RESULT);
        assert!(!reply.headers.contains(wire::header::ROUTE_SUCCESS));
    }

    #[test]
    fn what_needs_no_answer_gets_none() {
        for content_type in [content_type::PEER_STATE_CHANGE, content_type::DATA_STATE, 31_337] {
            assert_eq!(ask(&Frame::new(content_type, "")), None);
        }
    }
}
