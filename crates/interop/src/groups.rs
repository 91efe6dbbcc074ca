//! All scenarios, group by group. A group is a file here; a large one has a folder besides.

mod cli;
mod places;
mod rescue;
mod router_on_stock;
mod site;
mod stock_files;
mod stock_on_ours;

use crate::scenario::Group;

/// Every group, in the order of the report.
pub(crate) fn all() -> Vec<Group> {
    vec![
        router_on_stock::group(),
        places::group(),
        stock_on_ours::group(),
        cli::group(),
        rescue::group(),
        stock_files::extend(),
        stock_files::doctor(),
    ]
}
