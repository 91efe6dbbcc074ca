//! Routers, administrators, the audit trail and the register's own facts.

use lifecycle::issuance::{Answer, Campaign, EnrollmentKind, Standing};
use serde_json::{Map, json};
use store::register::{Admin, AuditQuery, RegisterError, RouterFilter, RouterPatch, RouterQuery, RouterSort, Seen};

use crate::support::*;

/// SHA-1 is what OpenZiti's link verification asks by; it may collide, and decides nothing.
#[tokio::test]
async fn e_9_two_leaves_with_one_sha1_are_told_apart() {
    for register in &both().all {
        for router in [2, 3] {
            register.create_router(new_router(router), by(0)).await.unwrap();
            let colliding = store::register::Chains { client_sha1: sha1(77), ..chains(router) };
            register.submit(enroll(router, router).with(store::register::Attachment::Chains(colliding))).await.unwrap();
        }
        let mut found = register.find_leaf(sha1(77)).await.unwrap();
        found.sort_by(|left, right| left.router.cmp(&right.router));
        let facts: Vec<_> = found.iter().map(|leaf| (leaf.router.clone(), leaf.fingerprint)).collect();
        assert_eq!(facts, [(id(2), leaf(2).fingerprint), (id(3), leaf(3).fingerprint)]);
        let record = register.record(id(2)).await.unwrap().unwrap();
        assert!(record.check_link(at(2), &policy(), leaf(2).fingerprint).is_ok());
        assert!(record.check_link(at(2), &policy(), leaf(3).fingerprint).is_err(), "it is the other router's");
    }
}

#[tokio::test]
async fn names_and_ids_are_given_once() {
    for register in &both().all {
        register.create_router(new_router(1), by(0)).await.unwrap();
        let same_id = register.create_router(new_router(1), by(0)).await.unwrap_err();
        assert_eq!(same_id, RegisterError::IdTaken(id(1)));
        let mut same_name = new_router(2);
        same_name.name = "Router 1".to_owned();
        let same_name = register.create_router(same_name, by(0)).await.unwrap_err();
        assert_eq!(same_name, RegisterError::NameTaken("Router 1".to_owned()));
        register.create_router(new_router(2), by(0)).await.unwrap();
        let patch = RouterPatch { name: Some("Router 1".to_owned()), ..RouterPatch::default() };
        let taken = register.patch_router(id(2), patch, by(1)).await.unwrap_err();
        assert_eq!(taken, RegisterError::NameTaken("Router 1".to_owned()));
        register.delete_router(id(1), by(2)).await.unwrap();
        register.create_router(new_router(1), by(3)).await.unwrap();
    }
}

#[tokio::test]
async fn what_an_administrator_set_is_what_is_read() {
    for register in &both().all {
        let mut data = Map::new();
        data.insert("rack".to_owned(), json!({ "row": 3 }));
        let settings = RouterPatch {
            role_attributes: Some(vec!["west".to_owned(), "public".to_owned()]),
            is_tunneler_enabled: Some(true),
            cost: Some(65_535),
            no_traversal: Some(true),
            app_data: Some(data.clone()),
            tags: Some(data.clone()),
            extra: Some(data.clone()),
            ..RouterPatch::default()
        };
        let new = store::register::NewRouter { settings, ..new_router(2) };
        let created = register.create_router(new, by(5)).await.unwrap();
        assert_eq!(register.router(id(2)).await.unwrap(), Some(created.clone()));
        assert_eq!((created.router.cost, &created.router.extra), (65_535, &data));
        assert_eq!(created.router.kind, EnrollmentKind::Edge);

        let patch = RouterPatch { cost: Some(7), disabled: Some(true), ..RouterPatch::default() };
        let patched = register.patch_router(id(2), patch.clone(), by(9)).await.unwrap();
        assert_eq!(patched.answer, Answer::CloseChannels);
        assert_eq!(register.router(id(2)).await.unwrap(), Some(patched.view.clone()));
        assert_eq!(patched.view.record.standing, Standing::Disabled);
        assert_eq!((patched.view.router.updated_at, patched.view.router.cost), (at(9).wall, 7));
        let commits = register.metrics().commits;
        register.patch_router(id(2), patch, by(10)).await.unwrap();
        assert_eq!(register.metrics().commits, commits, "the same again changes nothing");
        let told: Vec<_> = events(register.as_ref(), 2).await.into_iter().map(|(event, _)| event).collect();
        assert_eq!(told, ["created", "changed", "disabled"]);
    }
}

#[tokio::test]
async fn what_a_router_says_of_itself_is_written_when_it_changes() {
    for register in &both().all {
        register.create_router(new_router(2), by(0)).await.unwrap();
        let seen = |s, version: &str| Seen {
            at: at(s).wall,
            hostname: "edge-2".to_owned(),
            version: version.to_owned(),
            details: Map::new(),
        };
        register.note_hello(id(2), seen(1, "1.0")).await.unwrap();
        let commits = register.metrics().commits;
        register.note_hello(id(2), seen(600, "1.0")).await.unwrap();
        assert_eq!(register.metrics().commits, commits);
        register.note_hello(id(2), seen(700, "1.1")).await.unwrap();
        assert_eq!(register.router(id(2)).await.unwrap().unwrap().router.seen, Some(seen(700, "1.1")));
        register.note_hello(id(2), seen(8000, "1.1")).await.unwrap();
        assert_eq!(register.router(id(2)).await.unwrap().unwrap().router.seen, Some(seen(8000, "1.1")));
    }
}

#[tokio::test]
async fn routers_are_found_filtered_sorted_and_by_page() {
    for register in &both().all {
        for router in 0..25 {
            register.create_router(new_router(router), by(100 - router)).await.unwrap();
        }
        let list = |query: RouterQuery| async {
            let listed = register.routers(query).await.unwrap();
            let ids: Vec<String> = listed.routers.iter().map(|view| view.router.id.to_string()).collect();
            (listed.total, ids)
        };
        let (total, ids) = list(RouterQuery::default()).await;
        assert_eq!((total, ids.len(), ids[1].as_str()), (25, 25, "router00001"));
        let page = RouterQuery { sort: RouterSort::CreatedAt, limit: 2, offset: 1, ..RouterQuery::default() };
        assert_eq!(list(page.clone()).await, (25, vec!["router00023".to_owned(), "router00022".to_owned()]));
        let back = RouterQuery { descending: true, offset: 0, limit: 1, ..page };
        assert_eq!(list(back).await, (25, vec!["router00000".to_owned()]));
        let filter = vec![RouterFilter::NameContains("ROUTER 1".to_owned()), RouterFilter::Kind(EnrollmentKind::Edge)];
        let (total, ids) = list(RouterQuery { filter, ..RouterQuery::default() }).await;
        assert_eq!((total, ids[0].as_str()), (5, "router00010"));
        let filter = vec![RouterFilter::NameContains("%' OR 1=1 --".to_owned())];
        assert_eq!(list(RouterQuery { filter, ..RouterQuery::default() }).await.0, 0);
        let filter = vec![RouterFilter::NameIs("Router 7".to_owned()), RouterFilter::Id(id(7))];
        assert_eq!(list(RouterQuery { filter, ..RouterQuery::default() }).await.0, 1);
    }
}

#[tokio::test]
async fn the_audit_trail_outlives_the_router_and_pages_both_ways() {
    for register in &both().all {
        enrolled(register.as_ref(), 2, 10).await;
        enrolled(register.as_ref(), 4, 12).await;
        let gone = register.delete_router(id(2), by(50)).await.unwrap();
        assert_eq!(gone.record.leaves.len(), 1);
        assert!(register.router(id(2)).await.unwrap().is_none());
        assert!(register.find_leaf(sha1(10)).await.unwrap().is_empty());
        assert!(register.chains(id(2), gone.record.last_seq).await.unwrap().is_none());

        let query = AuditQuery { router: Some(id(2)), limit: 2, ..AuditQuery::default() };
        let newest = register.audit(query.clone()).await.unwrap();
        assert_eq!(newest[0].event, "deleted");
        assert_eq!((newest[0].actor.as_str(), newest[0].at), ("admin:alice", at(50).wall));
        let older = register.audit(AuditQuery { before: Some(newest[1].seq), ..query.clone() }).await.unwrap();
        assert_eq!((older[0].event.as_str(), older[1].event.as_str()), ("enrolled", "created"));
        assert_eq!(older[0].detail, json!({ "leaf": 1 }));
        let query = AuditQuery { after: Some(older[1].seq), ascending: true, ..query };
        assert_eq!(register.audit(query).await.unwrap()[0], older[0]);
        let all = register.audit(AuditQuery::default()).await.unwrap();
        assert!(all.windows(2).all(|pair| pair[0].seq > pair[1].seq) && all.len() == 7);
    }
}

#[tokio::test]
async fn administrators_campaign_heartbeat_and_counts() {
    for register in &both().all {
        let admin = |hash: &str, s| Admin {
            id: format!("a{s}"),
            name: "alice".to_owned(),
            password_hash: hash.to_owned(),
            created_at: at(s).wall,
            updated_at: at(s).wall,
        };
        register.put_admin(admin("$argon2id$1", 1), by(1)).await.unwrap();
        register.put_admin(admin("$argon2id$2", 2), by(2)).await.unwrap();
        let held = register.admin("alice".to_owned()).await.unwrap().unwrap();
        assert_eq!((held.id.as_str(), held.password_hash.as_str()), ("a1", "$argon2id$2"));
        assert!(!format!("{held:?}").contains("argon2"));
        assert_eq!(register.admins().await.unwrap(), [held]);

        let campaign = Campaign { ordered_at: at(5).wall, until: at(9).wall };
        register.set_campaign(Some(campaign), by(5)).await.unwrap();
        assert_eq!(register.heartbeat(at(6).wall).await.unwrap(), None);
        assert_eq!(register.heartbeat(at(66).wall).await.unwrap(), Some(at(6).wall));
        let meta = register.meta().await.unwrap();
        assert_eq!((meta.campaign, meta.last_seen_at), (Some(campaign), Some(at(66).wall)));
        assert_eq!((meta.instance_id.as_str(), meta.restored_from), ("instance", None));
        register.set_campaign(None, by(7)).await.unwrap();
        assert_eq!(register.meta().await.unwrap().campaign, None);

        enrolled(register.as_ref(), 2, 10).await;
        register.create_router(new_router(3), by(8)).await.unwrap();
        let counts = register.counts().await.unwrap();
        assert_eq!((counts.edge, counts.transit, counts.enrolled, counts.tokens), (1, 1, 1, 1));
        assert_eq!((counts.leaves, counts.admins, counts.audit), (1, 1, 8));
        register.delete_admin("alice".to_owned(), by(9)).await.unwrap();
        let again = register.delete_admin("alice".to_owned(), by(9)).await.unwrap_err();
        assert_eq!(again, RegisterError::UnknownAdmin("alice".to_owned()));
    }
}

#[test]
fn a_token_is_never_shown_by_debug() {
    let shown = format!("{:?}", new_router(2));
    assert!(!shown.contains("jti-2") && !shown.contains("ey.2"), "{shown}");
}
