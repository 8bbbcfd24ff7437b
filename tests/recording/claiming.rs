//! Whose file it is, and which files are refused before anything is dialed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay::close::CloseReason;
use mainstay::config::Record;
use mainstay::error::{AddError, Category, ConnectError, EndReason, RecordError, StartError};
use mainstay::platform::JsonRpc;
use mainstay::pool::{Pool, PoolSpec};
use mainstay::testing::{Handshake, Script, ScriptedServer};
use mainstay::{Client, Session, SessionSpec};

use crate::{LONG, builder, connect, entries, path, server, text};

async fn listening() -> ScriptedServer {
    server(Script::new().await_message("go")).await
}

async fn try_connect(server: &ScriptedServer, record: Record) -> Result<Session, StartError> {
    let config = builder(server.url(), record).build().expect("valid");
    tokio::time::timeout(LONG, Client::connect_with(config))
        .await
        .expect("in time")
}

fn refused(outcome: Result<Session, StartError>) -> RecordError {
    match outcome {
        Err(StartError::Record(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A start that is refused since another session has the file.
async fn assert_taken(server: &ScriptedServer, at: impl Into<PathBuf>) {
    let error = refused(try_connect(server, Record::to(at)).await);
    assert!(matches!(error, RecordError::Taken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_second_session_on_one_path_is_refused_and_the_first_goes_on_recording() {
    let path = path("second");
    let server = listening().await;
    let first = connect(server.url(), Record::to(&path)).await;
    let error = refused(try_connect(&server, Record::to(&path)).await);
    assert_eq!(
        error.to_string(),
        format!(
            "another session of this program records to {:?}: give each session a path of its own",
            &*path
        )
    );
    let explanation = error.explain();
    assert_eq!(explanation.code, "record-taken");
    assert_eq!(explanation.category, Category::Configuration);
    assert_eq!(server.accepted(), 1, "the second has not even dialed");
    first.send_text("of the first").await.expect("written");
    first.shutdown().await;
    let lines = text(&path);
    assert!(lines.contains("of the first"), "{lines}");
}

#[tokio::test]
async fn a_path_can_be_used_again_after_a_shutdown_though_handles_are_left() {
    let path = path("shut_down");
    let server = listening().await;
    let first = connect(server.url(), Record::to(&path)).await;
    first.send_text("of the first").await.expect("written");
    first.shutdown().await;
    let second = connect(server.url(), Record::to(&path).append(true)).await;
    second.send_text("of the second").await.expect("written");
    second.flush_recording().await;
    let lines = text(&path);
    // What is left of the first writes no more, nor opens or empties anything.
    first.flush_recording().await;
    drop(first);
    assert_eq!(text(&path), lines);
    assert!(lines.contains("of the first") && lines.contains("of the second"));
    assert_taken(&server, &path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_can_be_used_again_as_soon_as_its_session_is_dropped() {
    let path = path("dropped");
    let server = listening().await;
    for number in 0..20 {
        let session = connect(server.url(), Record::to(&path).append(true)).await;
        let said = session.send_text(format!("round {number}.")).await;
        said.expect("written");
        // Killed in the middle of a turn, perhaps, which then is lost to the one that follows at once.
        drop(session);
    }
    let session = connect(server.url(), Record::to(&path).append(true)).await;
    session.send_text("round 20.").await.expect("written");
    session.shutdown().await;
    let entries = entries(&path);
    let texts: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry.frame()?.as_text())
        .collect();
    let mut ordered = texts.clone();
    ordered.sort_by_key(|text| {
        text.strip_prefix("round ")
            .and_then(|rest| rest.strip_suffix('.')?.parse::<u8>().ok())
    });
    ordered.dedup();
    assert_eq!(texts, ordered, "each at most once, in order");
    assert_eq!(texts.last(), Some(&"round 20."));
}

#[tokio::test]
async fn a_start_that_fails_or_is_given_up_leaves_the_path_free() {
    let path = path("given_up");
    let scripts = [
        Script::refuse(401, &[], "no entry"),
        Script::new().handshake(Handshake::Silent),
        Script::new(),
    ];
    let server = ScriptedServer::builder().scripts(scripts).start().await;
    let server = server.expect("a server");
    let failed = try_connect(&server, Record::to(&path)).await;
    assert!(matches!(failed, Err(StartError::Connect(_))), "{failed:?}");
    tokio::select! {
        _ = try_connect(&server, Record::to(&path)) => panic!("nobody answers"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    connect(server.url(), Record::to(&path)).await;
}

#[tokio::test]
async fn one_file_is_seen_as_one_however_its_path_is_spelled() {
    let file = path("spelled");
    let folder = file.parent().expect("a folder").to_owned();
    std::fs::create_dir(folder.join("beside")).expect("a folder");
    let server = listening().await;
    let first = connect(server.url(), Record::to(&file)).await;
    assert_taken(&server, folder.join("./session.jsonl")).await;
    assert_taken(&server, folder.join("beside/../session.jsonl")).await;
    #[cfg(unix)]
    {
        let link = folder.join("link");
        std::os::unix::fs::symlink(&folder, &link).expect("a link");
        assert_taken(&server, link.join("session.jsonl")).await;
    }
    let other = folder.join("beside/session.jsonl");
    let beside = connect(server.url(), Record::to(other)).await;
    assert!(first.state().is_live() && beside.state().is_live());
}

#[tokio::test]
async fn sessions_of_a_pool_need_a_path_each_and_one_that_left_leaves_its_path() {
    let path = path("pool");
    let server = listening().await;
    let config = builder(server.url(), Record::to(&path))
        .build()
        .expect("valid");
    let pool = Pool::start(PoolSpec::new()).await.expect("a pool");
    let add = |id: &'static str| pool.add(id, JsonRpc, config.clone());
    let first = add("a").await.expect("live");
    let error = add("b").await.expect_err("taken");
    let AddError::NotLive { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(source, StartError::Record(RecordError::Taken { .. })),
        "{error:?}"
    );
    assert_eq!(error.explain().code, "record-taken");
    assert_eq!(pool.ids().len(), 1);
    assert_taken(&server, &path).await;
    assert!(pool.remove("a").await);
    let second = add("b").await.expect("the path is free");
    pool.shutdown().await;
    let third = connect(server.url(), Record::to(&path)).await;
    drop((first, second, third));
}

#[tokio::test]
async fn a_session_for_a_users_tree_that_has_no_file_is_over_and_says_why() {
    let path = path("tree");
    let server = listening().await;
    let config = || {
        builder(server.url(), Record::to(&path))
            .build()
            .expect("valid")
    };
    let (session, child) = Session::supervised("a", JsonRpc, config());
    let mould = SessionSpec::new(|| JsonRpc);
    let taken = mould.start_with(config()).await;
    assert!(matches!(taken, Err(StartError::Record(_))), "{taken:?}");
    let (second, _) = Session::supervised("b", JsonRpc, config());
    let ended = second.ended().await;
    let EndReason::Fatal(CloseReason::NotOpened(cause)) = &ended else {
        panic!("{ended:?}")
    };
    assert!(
        matches!(
            &**cause,
            ConnectError::Record {
                source: RecordError::Taken { .. }
            }
        ),
        "{cause:?}"
    );
    assert_eq!(ended.explain().code, "record-taken");
    // A spec that nobody starts holds nothing when it is gone.
    drop(child);
    connect(server.url(), Record::to(&path)).await;
    drop(session);
}

/// A start that is refused for where its file would be.
async fn assert_no_place(at: &Path, says: &str) {
    let server = listening().await;
    let error = refused(try_connect(&server, Record::to(at)).await);
    let said = error.to_string();
    assert!(said.contains(&format!("{at:?}")), "{said}");
    assert!(said.contains(says), "{said}");
    assert_eq!(error.explain().code, "record-path");
    assert_eq!(server.accepted(), 0, "nothing is dialed");
}

#[tokio::test]
async fn a_path_whose_folder_is_missing_is_refused_before_anything_is_dialed() {
    let file = path("missing");
    let folder = file.parent().expect("a folder").join("not_there");
    assert_no_place(&folder.join("session.jsonl"), "create it first").await;
    assert!(!folder.exists());
    // What should be the folder is a file.
    std::fs::write(&file, "mine").expect("written");
    assert_no_place(&file.join("session.jsonl"), "is no folder").await;
    assert_eq!(text(&file), "mine");
}

#[tokio::test]
async fn a_path_that_is_a_folder_is_refused_before_anything_is_dialed() {
    let file = path("folder");
    let folder = file.parent().expect("a folder");
    assert_no_place(folder, "name a file").await;
    let spelled = folder.join("not_there/");
    assert_no_place(&spelled, "name a file").await;
}
