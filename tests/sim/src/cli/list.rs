//! `kad-sim list`.

use kad_sim::experiments::{ALL, Experiment};
use serde_json::{Value, json};

use super::reply::Answer;
use super::table;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kad-sim list
  for name in $(kad-sim list --names); do kad-sim run $name --small; done")]
pub(crate) struct Args {
    /// Only their names, one a line
    #[arg(long)]
    names: bool,
}

pub(crate) fn execute(args: &Args) -> Answer {
    let object = json!({ "experiments": ALL.iter().map(object).collect::<Vec<_>>() });
    if args.names {
        let names: Vec<_> = ALL.iter().map(|experiment| experiment.name).collect();
        return Answer::new(object, names.join("\n"));
    }
    let head = ["", "experiment", "nodes", "small", "what it asks"];
    let rows = ALL.iter().map(|experiment| {
        [
            experiment.number.to_string(),
            experiment.name.to_owned(),
            table::grouped(experiment.nodes as u64),
            table::grouped(experiment.small as u64),
            experiment.question.to_owned(),
        ]
    });
    let table = table::draw(head, rows, &[0, 2, 3]);
    Answer::new(
        object,
        format!(
            "{table}\n\nkad-sim run EXPERIMENT repeats one of them; --small takes the small number of nodes"
        ),
    )
}

fn object(experiment: &Experiment) -> Value {
    json!({
        "name": experiment.name,
        "number": experiment.number,
        "question": experiment.question,
        "source": experiment.source,
        "nodes": experiment.nodes,
        "small": experiment.small,
    })
}
