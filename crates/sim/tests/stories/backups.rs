//! A register or a stock database that goes back to last night.

use sim::{Make, Plan, World};

use crate::scene::{
    BOTH, DAY, HOUR, can_still_renew, connected, connected_with, connects, ends_well, passes, renews, serves,
};

/// A-1, second way, and C-2: the copy is from before the renewal, and what it admits is the older leaf.
#[test]
fn a_1_a_register_restored_from_before_a_renewal_still_admits_the_router() {
    for controllers in BOTH {
        for count in [1, 2] {
            let mut world = connected_with(controllers, count);
            world.back_up();
            renews(&mut world);
            // Long after every overlap and drain deadline.
            passes(&mut world, 20 * DAY);
            world.restore();
            assert!(!world.is_locked_out(0), "{controllers:?}");
            connects(&mut world, HOUR);
            can_still_renew(&mut world);
        }
    }
}

/// Our register cannot know the leaf and can prove it: the router never leaves its newest one.
#[test]
fn c_2_our_restored_register_believes_a_leaf_that_was_issued_after_the_backup() {
    let mut world = connected(Make::Exuvia);
    world.back_up();
    renews(&mut world);
    passes(&mut world, 20 * DAY);
    world.restore();
    connects(&mut world, HOUR);
    serves(&mut world, 2, HOUR);
    ends_well(&mut world);
}

#[test]
fn a_1_a_register_restored_while_the_router_is_off_still_admits_it() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.back_up();
        renews(&mut world);
        renews(&mut world);
        world.kill_router(0);
        passes(&mut world, DAY);
        world.restore();
        world.start_router(0);
        connects(&mut world, HOUR);
        can_still_renew(&mut world);
    }
}

/// At every moment of a renewal, before and after: the copy is taken at one, and put back at another.
#[test]
fn a_register_backed_up_and_restored_at_any_moment_of_a_renewal_loses_nobody() {
    for controllers in BOTH {
        let mut base = connected(controllers);
        base.renew_now(0);
        for backed_up in 0..16 {
            let mut copy = base.clone();
            copy.back_up();
            for restored in (0..20).step_by(3) {
                let mut world = copy.clone();
                for _ in 0..restored {
                    world.tick();
                }
                world.restore();
                let story = format!("{controllers:?}: backed up at {backed_up}, restored {restored} later");
                world.run_for(2 * HOUR).unwrap_or_else(|broken| panic!("{story}: {broken}"));
                assert_eq!(world.connected(0), 1, "{story}");
                can_still_renew(&mut world);
            }
            base.tick();
        }
    }
}

/// Again and again, with a renewal between each two.
#[test]
fn three_restores_in_a_row_from_the_same_copy_lose_nobody() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.back_up();
        for _ in 0..3 {
            renews(&mut world);
            passes(&mut world, DAY);
            world.restore();
            connects(&mut world, HOUR);
        }
        can_still_renew(&mut world);
    }
}

/// An unmodified router on our controller: it has only the newest leaf, and that one is provable.
#[test]
fn a_stock_router_survives_a_restore_of_our_register() {
    let mut world = World::new(Plan::calm(7, Make::Stock, Make::Exuvia));
    passes(&mut world, 80 * DAY);
    world.back_up();
    passes(&mut world, 5 * DAY);
    assert_eq!(world.counts().renewals, 1);
    world.restore();
    passes(&mut world, HOUR);
    assert_eq!(world.connected(0), 1);
    assert_eq!(world.counts().losses, 0);
}

/// The control: the same between two stock ones is the end.
#[test]
fn a_stock_router_is_lost_by_a_restore_of_a_stock_database() {
    let mut world = World::new(Plan::calm(7, Make::Stock, Make::Stock));
    passes(&mut world, 80 * DAY);
    world.back_up();
    passes(&mut world, 5 * DAY);
    assert_eq!(world.counts().renewals, 1);
    world.restore();
    passes(&mut world, HOUR);
    assert_eq!(world.connected(0), 0);
    assert!(world.is_locked_out(0));
}
