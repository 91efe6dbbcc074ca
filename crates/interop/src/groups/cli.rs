//! OpenZiti's command line on our controller: what each command prints and ends with, and what becomes of a real router.

mod desk;
mod routers;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::desk::Desk;
use crate::scenario::{Bench, Group, Scenario, Shown};

pub(super) fn group() -> Group {
    let mut scenarios = vec![
        Scenario::new(
            "cli-login",
            "`ziti edge login` asks before it trusts our CA, takes it with `-y` or `--ca`, refuses a wrong password, and finds the \
             management interface by itself; `edge version`, `edge logout`",
            login,
        ),
        Scenario::new(
            "cli-token",
            "`ziti edge login --token` uses a session that somebody else began, read-only unless told; one that ended is told as such",
            token,
        ),
        Scenario::new(
            "cli-create-edge-router",
            "`ziti edge create edge-router` with every flag: all of it is there when it is listed, and the JWT is a file of mode 0600",
            create_edge_router,
        ),
        Scenario::new(
            "cli-list-edge-routers",
            "`ziti edge list edge-routers`: filters, order, pages, role filters, CSV and JSON as on a stock controller, side by side",
            list_edge_routers,
        ),
        Scenario::new(
            "cli-update-edge-router",
            "`ziti edge update edge-router` changes what is named and nothing else, `--use-put` resets the rest, and mistakes end with 1",
            update_edge_router,
        ),
        Scenario::new(
            "cli-delete",
            "`ziti edge delete edge-router` by name, by id, several, and `where`; one that is not there changes nothing",
            delete,
        ),
        Scenario::new(
            "cli-transit-router",
            "`ziti edge create`, `list` and `delete transit-router`; its JWT enrolls a stock transit router",
            transit_router,
        ),
        Scenario::new(
            "cli-fabric-routers",
            "`ziti fabric list`, `update` and `delete router` see routers of both kinds; `edge list summary` counts them",
            fabric_routers,
        ),
        Scenario::new(
            "cli-not-served",
            "what this controller does not serve ends with 1 and `404 NOT_FOUND`, and changes nothing",
            not_served,
        ),
    ];
    scenarios.extend(routers::scenarios());
    Group { id: "cli", title: "OpenZiti's command line on our controller", scenarios }
}

fn login(bench: &Bench) -> Result<Shown> {
    let desk = Desk::logged_out(bench)?;
    let at = format!("localhost:{}", desk.controller.api_port());
    let (user, password) = (["-u", "admin", "-p"], desk.controller.password());
    let login = |at: &str, password: &str, more: &[&str]| -> Result<_> {
        let mut args = vec!["edge", "login", at];
        args.extend(user);
        args.push(password);
        args.extend(more);
        desk.ran(&args)
    };
    // Without a terminal it cannot ask, so it trusts nobody.
    login(&at, password, &[])?.refused(&["Verified that server supplied certificates are trusted by server"])?;
    login(&at, "wrong", &["-y"])?.refused(&["401", "INVALID_AUTH"])?;
    let ca = desk.controller.home().join("ctl/pki/bundle.pem").to_string_lossy().into_owned();
    let (with_scheme, with_path) = (format!("https://{at}"), format!("{at}/edge/management/v1"));
    let (yes, by_file): (&[&str], &[&str]) = (&["-y"], &["--ca", &ca]);
    for (at, more) in [(&at, yes), (&at, by_file), (&with_scheme, yes), (&with_path, yes)] {
        login(at, password, more)?.done(&["Saving identity 'default'"])?;
    }
    let version = desk.ran(&["edge", "version"])?.done(&["Version     : v", "Runtime     : rust"])?;
    desk.ran(&["edge", "logout"])?.done(&["Removing identity 'default'"])?;
    desk.ran(&["edge", "list", "edge-routers"])?.refused(&["log in"])?;
    Ok(Shown::holds(version.lines().next().unwrap_or_default().to_owned()))
}

fn token(bench: &Bench) -> Result<Shown> {
    let desk = Desk::logged_out(bench)?;
    let at = format!("localhost:{}", desk.controller.api_port());
    let token = desk.controller.session()?;
    desk.ran(&["edge", "login", &at, "--token", &token, "-y"])?.done(&["read-only"])?;
    desk.ran(&["edge", "list", "edge-routers"])?.done(&["results: none"])?;
    desk.ran(&["edge", "create", "edge-router", "r1"])?.refused(&["read-only"])?;
    desk.ran(&["edge", "login", &at, "--token", &token, "-y", "--read-only=false"])?.done(&["Saving identity"])?;
    desk.ran(&["edge", "create", "edge-router", "r1"])?.done(&["New edge router r1 created"])?;
    let ended = "00000000-0000-4000-8000-000000000000";
    desk.ran(&["edge", "login", &at, "--token", ended, "-y"])?.done(&[])?;
    desk.ran(&["edge", "list", "edge-routers"])?.refused(&["401"])?;
    Ok(Shown::holds("a session of the REST interface made and listed a router"))
}

fn create_edge_router(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    let jwt = desk.home.join("r1.jwt");
    let path = jwt.to_string_lossy().into_owned();
    let mut args = vec!["edge", "create", "edge-router", "r1", "-o", &path, "-a", "x,y", "-t", "--app-data", "k=v"];
    args.extend(["--tags", "site=paris,floor=3", "--cost", "7", "--no-traversal", "--disabled"]);
    desk.ran(&args)?.done(&["New edge router r1 created with id:", "Enrollment expires at"])?;
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&jwt).context("there is no JWT")?) & 0o777;
    ensure!(mode == 0o600, "the JWT has mode {mode:o}");
    let made = desk.edge_router("r1")?;
    for (field, wanted) in [
        ("roleAttributes", json!(["x", "y"])),
        ("isTunnelerEnabled", json!(true)),
        ("appData", json!({ "k": "v" })),
        ("tags", json!({ "site": "paris", "floor": "3" })),
        ("cost", json!(7)),
        ("noTraversal", json!(true)),
        ("disabled", json!(true)),
        ("isVerified", json!(false)),
        ("enrollmentJwt", json!(fs::read_to_string(&jwt)?)),
    ] {
        ensure!(made[field] == wanted, "{field} is {}, not {wanted}", made[field]);
    }
    desk.ran(&["edge", "create", "edge-router", "r2", "--tags-json", r#"{"n":3,"b":true}"#])?
        .done(&["New edge router r2"])?;
    ensure!(desk.edge_router("r2")?["tags"] == json!({ "n": 3, "b": true }), "tags as JSON");
    let flag = "--bootstrap-ctrl-chan-listener";
    let listeners = ["edge", "create", "edge-router", "r3", flag, "tls:192.0.2.1:6262", flag, "tls:192.0.2.2:6262=g1"];
    let has_listeners = desk.ran(&listeners)?;
    // Releases before 2.0 do not know the flag.
    let listeners = if has_listeners.text.contains("unknown flag") {
        "no flag for listeners"
    } else {
        has_listeners.done(&["New edge router r3"])?;
        let wanted = json!({ "tls:192.0.2.1:6262": [], "tls:192.0.2.2:6262": ["g1"] });
        ensure!(desk.edge_router("r3")?["ctrlChanListeners"] == wanted, "the listeners");
        "listeners with and without groups"
    };
    desk.ran(&["edge", "create", "edge-router", "r1"])?.refused(&["400", "already exists"])?;
    desk.ran(&["edge", "create", "edge-router", ""])?.refused(&["400", "must not be empty"])?;
    desk.ran(&["edge", "create", "edge-router", "r4", "-a", "#x"])?.refused(&["400", "roleAttributes"])?;
    Ok(Shown::holds(format!("nine fields as given; {listeners}")))
}

/// Filters whose answers are compared with a stock controller's.
const FILTERS: &[&str] = &[
    "true",
    r#"name="a1""#,
    r#"name = "a1" or name = "a2""#,
    r#"name = "zz" and cost = 1 or cost = 2"#,
    r#"cost = 2 or cost = 1 and name = "a2""#,
    r#"not name = "a1" and name = "a2""#,
    r#"(not name = "a1") and name = "a2""#,
    "cost between 1 and 3",
    "cost not between 1 and 3",
    "cost contains 1",
    "cost in [1, 40]",
    "cost not in [1, 2]",
    "cost >= 2 sort by cost desc",
    r#"name contains "a""#,
    r#"name icontains "A""#,
    r#"name not icontains "A""#,
    r#"name > "a2""#,
    "fingerprint = null",
    r#"fingerprint != "x""#,
    "isVerified",
    "not isVerified",
    "noTraversal",
    r#"anyOf(roleAttributes) = "x""#,
    r#"allOf(roleAttributes) = "x""#,
    "count(roleAttributes) > 1",
    "isEmpty(roleAttributes)",
    r#"tags.site = "paris""#,
    r#"tags.site != "paris""#,
    "tags.site = null",
    "createdAt > datetime(2020-01-01T00:00:00Z)",
    "createdAt < datetime(2020-01-01T00:00:00Z)",
    "true sort by name desc limit 2",
    "true sort by name skip 1 limit 2",
    "sort by name limit 0",
    "true sort by cost, name",
    // Mistakes, which both refuse.
    r#"cost = "1""#,
    "name = a1",
    "nosuch = 1",
    r#"anyOf(name) = "a1""#,
    "true sort by roleAttributes",
    "limit 1 skip 1",
    r#"createdAt > "2020""#,
];

fn list_edge_routers(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    let stock = rig::ZitiNetwork::start(&bench.ziti, &bench.scratch.join("n"), rig::ZitiSettings::default())?;
    for cli in [&desk.cli, stock.cli()] {
        for (name, cost, roles, tags) in [
            ("a1", "1", "x,y", "site=paris"),
            ("a2", "2", "x", "site=rome"),
            ("a3", "3", "", ""),
            ("B4", "40", "y,z", ""),
        ] {
            let mut args = vec!["edge", "create", "edge-router", name, "--cost", cost];
            // Releases before 2.0 do not take an empty list.
            for (flag, value) in [("-a", roles), ("--tags", tags)] {
                if !value.is_empty() {
                    args.extend([flag, value]);
                }
            }
            cli.run(&args)?.ok()?;
        }
        cli.run(&["edge", "update", "edge-router", "a2", "--no-traversal"])?.ok()?;
    }
    for filter in FILTERS {
        let (ours, theirs) = (names(&desk.cli, filter)?, names(stock.cli(), filter)?);
        ensure!(ours == theirs, "`{filter}`: ours {ours:?}, theirs {theirs:?}");
    }
    let list = |more: &[&str]| -> Result<_> {
        let mut args = vec!["edge", "list", "edge-routers"];
        args.extend(more);
        desk.ran(&args)
    };
    list(&["true sort by name skip 1 limit 2"])?.done(&["a1", "a2", "results: 2-3 of 4"])?;
    list(&["limit none"])?.done(&["results: 1-4 of 4"])?;
    list(&["--role-filters", "#x"])?.done(&["results: 1-2 of 2"])?;
    list(&["--role-filters", "#x,#z", "--role-semantic", "AnyOf", "--csv"])?.done(&["ID,Name,Online", "a1", "B4"])?;
    Ok(Shown::holds(format!("{} filters select the same routers, or are refused by both", FILTERS.len())))
}

/// The routers that a filter selects, in order if it sorts; `None` if it is refused.
fn names(cli: &rig::ZitiCli, filter: &str) -> Result<Option<Vec<String>>> {
    let ran = cli.run(&["edge", "list", "edge-routers", filter, "-j"])?;
    if ran.code != Some(0) {
        let text = format!("{}{}", ran.stdout, ran.stderr);
        ensure!(text.contains("400 Bad Request") && text.contains("INVALID_FILTER"), "`{filter}`: {text}");
        return Ok(None);
    }
    let answer = ran.json()?;
    let rows = answer["data"].as_array().context("no rows")?;
    let mut names: Vec<String> = rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
    if !filter.contains("sort by") {
        names.sort();
    }
    Ok(Some(names))
}

fn update_edge_router(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    desk.ran(&["edge", "create", "edge-router", "r1", "--cost", "3", "-a", "x", "--tags", "a=b"])?.done(&[])?;
    let update = |name: &str, more: &[&str]| -> Result<_> {
        let mut args = vec!["edge", "update", "edge-router", name];
        args.extend(more);
        desk.ran(&args)
    };
    update("r1", &["-n", "r2", "--no-traversal"])?.done(&[])?;
    let changed = desk.edge_router("r2")?;
    let kept = [&changed["cost"], &changed["roleAttributes"], &changed["tags"], &changed["noTraversal"]];
    ensure!(kept == [&json!(3), &json!(["x"]), &json!({ "a": "b" }), &json!(true)], "after a patch: {kept:?}");
    update("r2", &["--role-attributes", "", "--cost", "9", "--tags", "c=d", "--app-data", "k=v", "-t"])?.done(&[])?;
    let changed = desk.edge_router("r2")?;
    let set = [&changed["cost"], &changed["roleAttributes"], &changed["tags"], &changed["isTunnelerEnabled"]];
    ensure!(set == [&json!(9), &json!([]), &json!({ "c": "d" }), &json!(true)], "after a second one: {set:?}");
    update("r2", &["--use-put", "-n", "r3"])?.done(&[])?;
    let reset = desk.edge_router("r3")?;
    ensure!([&reset["cost"], &reset["tags"]] == [&json!(0), &json!({})], "after a put: {reset}");
    update("r3", &[])?.refused(&["no change specified"])?;
    update("nosuch", &["--cost", "1"])?.refused(&["no edge-routers"])?;
    desk.ran(&["edge", "create", "edge-router", "other"])?.done(&[])?;
    update("r3", &["-n", "other"])?.refused(&["400", "already exists"])?;
    Ok(Shown::holds("name, cost, traversal, attributes, tags, application data; PATCH and PUT"))
}

fn delete(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    for name in ["r1", "r2", "r3", "r4", "r5"] {
        desk.ran(&["edge", "create", "edge-router", name])?.done(&[])?;
    }
    let id = desk.edge_router("r2")?["id"].as_str().context("no id")?.to_owned();
    desk.ran(&["edge", "delete", "edge-router", "r1"])?.done(&["OK"])?;
    desk.ran(&["edge", "delete", "edge-router", &format!("id:{id}")])?.done(&["OK"])?;
    desk.ran(&["edge", "delete", "edge-routers", "r3", "r4"])?.done(&["OK"])?;
    desk.ran(&["edge", "list", "edge-routers"])?.done(&["r5", "results: 1-1 of 1"])?;
    desk.ran(&["edge", "delete", "edge-router", "where", r#"name = "r5""#])?.done(&["OK"])?;
    let absent = desk.ran(&["edge", "delete", "edge-router", "nosuch"])?;
    ensure!(absent.text.contains("Found 0 edge-routers"), "{}", absent.text);
    desk.ran(&["edge", "list", "edge-routers"])?.done(&["results: none"])?;
    Ok(Shown::holds(format!("five routers gone; deleting one that is not there ends with {:?}", absent.code)))
}

fn transit_router(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    let jwt = desk.home.join("t1.jwt");
    let path = jwt.to_string_lossy().into_owned();
    let create =
        ["edge", "create", "transit-router", "t1", "-o", &path, "--cost", "3", "--no-traversal", "--tags", "x=y"];
    desk.ran(&create)?.done(&["New transit router t1 created with id:", "Enrollment expires at"])?;
    let made = desk.cli.listed("transit-routers", "t1")?;
    let set = [&made["cost"], &made["noTraversal"], &made["tags"], &made["isVerified"]];
    ensure!(set == [&json!(3), &json!(true), &json!({ "x": "y" }), &json!(false)], "as made: {set:?}");
    desk.ran(&["edge", "list", "transit-routers"])?.done(&["t1", "results: 1-1 of 1"])?;
    let folder = bench.scratch.join("t");
    let files = rig::ZitiRouter::transit(&bench.ziti, &folder, "t1", desk.controller.ctrl_port())?;
    files.enroll(&jwt)?.ok()?;
    ensure!(desk.cli.listed("transit-routers", "t1")?["isVerified"] == Value::Bool(true), "it is enrolled");
    desk.ran(&["edge", "delete", "transit-router", "t1"])?.done(&["OK"])?;
    desk.ran(&["edge", "list", "transit-routers"])?.done(&["results: none"])?;
    Ok(Shown::holds("made, enrolled, listed and deleted"))
}

fn fabric_routers(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    desk.ran(&["edge", "create", "edge-router", "e1"])?.done(&[])?;
    desk.ran(&["edge", "create", "transit-router", "t1"])?.done(&[])?;
    desk.ran(&["fabric", "list", "routers"])?.done(&["e1", "t1", "results: 1-2 of 2"])?;
    desk.ran(&["fabric", "list", "routers", r#"name = "e1""#])?.done(&["e1", "results: 1-1 of 1"])?;
    desk.ran(&["fabric", "list", "routers", "nosuch = 1"])?.refused(&[])?;
    desk.ran(&["fabric", "update", "router", "e1", "-n", "e2", "--cost", "12", "--no-traversal", "--disabled"])?
        .done(&[])?;
    let changed = desk.edge_router("e2")?;
    let set = [&changed["cost"], &changed["noTraversal"], &changed["disabled"]];
    ensure!(set == [&json!(12), &json!(true), &json!(true)], "after an update: {set:?}");
    desk.ran(&["fabric", "update", "router", "e2"])?.refused(&["no change specified"])?;
    desk.ran(&["fabric", "update", "router", "nosuch", "--cost", "1"])?.refused(&["found 0 results"])?;
    desk.ran(&["fabric", "update", "router", "e2", "--fingerprint", "zz"])?.refused(&["400", "40 hex digits"])?;
    let summary = desk.ran(&["edge", "list", "summary"])?.done(&["routers", "enrollments"])?;
    ensure!(summary.lines().any(|line| line.contains("routers.edge") && line.contains('1')), "{summary}");
    desk.ran(&["fabric", "delete", "router", "e2", "t1"])?.done(&["OK"])?;
    desk.ran(&["fabric", "list", "routers"])?.done(&["results: none"])?;
    Ok(Shown::holds("both kinds listed, changed, counted and deleted"))
}

fn not_served(bench: &Bench) -> Result<Shown> {
    const COMMANDS: &[&[&str]] = &[
        &["edge", "list", "identities"],
        &["edge", "list", "services"],
        &["edge", "list", "configs"],
        &["edge", "list", "terminators"],
        &["edge", "list", "edge-router-policies"],
        &["edge", "list", "edge-router-role-attributes"],
        &["edge", "list", "enrollments"],
        &["edge", "create", "service", "s1"],
        &["edge", "create", "edge-router", "r1", "--config", "c1"],
        &["fabric", "list", "links"],
        &["fabric", "list", "circuits"],
        &["fabric", "list", "services"],
        &["fabric", "inspect", "stackdump"],
        &["fabric", "db", "snapshot"],
    ];
    let desk = Desk::new(bench)?;
    let mut refused = 0;
    for command in COMMANDS {
        let ran = desk.ran(command)?;
        // Not every release has every command and flag.
        if ran.text.contains("unknown") {
            continue;
        }
        ran.refused(&["404"])?;
        refused += 1;
    }
    desk.ran(&["edge", "list", "edge-routers"])?.done(&["results: none"])?;
    Ok(Shown::holds(format!("{refused} commands")))
}
