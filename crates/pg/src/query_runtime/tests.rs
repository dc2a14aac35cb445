//! Statements on threads do not wait for each other, and end when they are stopped.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::{future, thread};

use datafusion::common::runtime::JoinSet;

use super::*;
use crate::sqlstate::SqlState;

/// Computes without yielding until `end` is set.
fn deaf(end: Arc<AtomicBool>) -> impl Future<Output = ()> {
    future::poll_fn(move |_| {
        while !end.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        Poll::Ready(())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_statement_that_never_pauses_makes_none_wait() {
    let queries = QueryRuntime::new(1);
    let end = Arc::new(AtomicBool::new(false));
    let deaf = [(); 3].map(|()| queries.spawn(&Arc::default(), deaf(Arc::clone(&end))).unwrap());
    for answer in 0..3 {
        assert_eq!(
            queries.spawn(&Arc::default(), async move { answer }).unwrap().await.unwrap(),
            answer
        );
    }
    end.store(true, Ordering::Relaxed);
    for task in deaf {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_tasks_of_operators_are_stopped_with_their_statement() {
    let queries = QueryRuntime::new(1);
    let running = Arc::<Running>::default();
    let inner = async {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            loop {
                if let Err(error) = check() {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        });
        tasks.join_next().await.unwrap().unwrap()
    };
    let task = queries.spawn(&running, inner).unwrap();
    running.stop(Stop::Timeout);
    running.stop(Stop::UserRequest);
    let error = task.await.unwrap();
    assert_eq!(error.sqlstate, SqlState::QUERY_CANCELED);
    assert_eq!(error.message, "canceling statement due to statement timeout");
}

#[tokio::test]
async fn on_a_runtime_of_one_thread_statements_are_tasks_of_it() {
    let queries = QueryRuntime::new(4);
    let there = queries.spawn(&Arc::default(), async { thread::current().id() }).unwrap();
    assert_eq!(there.await.unwrap(), thread::current().id());
}
