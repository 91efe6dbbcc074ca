use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use lifecycle::GenerationNumber;
use net::credentials::{CredentialParts, Credentials, CredentialsSlot};
use net::http::{HttpAnswer, HttpClient, HttpLimits, HttpListener, HttpService};
use net::stop::Stop;
use net::tls::{ClientCertificate, ServerTrust};
use pki::Chain;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::world::{Keys, World};

async fn post(client: &HttpClient, uri: &str, body: &Value) -> HttpAnswer {
    let request = Request::post(uri).header("content-type", "application/json").body(Bytes::from(body.to_string()));
    client.send(request.unwrap()).await.unwrap()
}

fn chain(answer: &HttpAnswer, name: &str) -> Chain {
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    Chain::from_pem(json["data"][name].as_str().unwrap().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_router_enrolls_and_extends_over_real_tls() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}/edge/client/v1", listener.local_addr().unwrap());
    let (stop, signal) = Stop::new();
    let server = HttpListener {
        credentials: Some(CredentialsSlot::new(Arc::clone(&world.credentials))),
        clients: ClientCertificate::Asked,
        service: HttpService::tower(world.app.clone()),
        limits: HttpLimits::default(),
    };
    let serving = tokio::spawn(server.serve(listener, signal));
    let anonymous = || HttpClient::new(ServerTrust::bundle(&world.bundle).unwrap());

    let keys = Keys::new();
    let enrolled = post(&anonymous(), &format!("{base}/enroll?method=erott&token={token}"), &keys.body(&id)).await;
    assert_eq!(enrolled.status, StatusCode::OK);
    let credentials = Credentials::new(CredentialParts {
        generation: GenerationNumber(1),
        client: &chain(&enrolled, "cert"),
        client_key: &keys.client,
        server: &chain(&enrolled, "serverCert"),
        server_key: &keys.server,
        bundle: &world.bundle,
    });
    let named = anonymous().presenting(Arc::clone(credentials.unwrap().client()));

    let extend = format!("{base}/enroll/extend/router");
    let body = Keys::new().body(&id);
    assert_eq!(post(&anonymous(), &extend, &body).await.status, StatusCode::UNAUTHORIZED);
    let extended = post(&named, &extend, &body).await;
    assert_eq!(extended.status, StatusCode::OK, "{:?}", extended.body);
    assert_ne!(chain(&extended, "cert").leaf(), chain(&enrolled, "cert").leaf());

    stop.stop();
    serving.await.unwrap().unwrap();
}
