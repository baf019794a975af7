//! The method pinned by numbers: what reaches a policy, weight by weight and draw by draw, and what
//! holds for documents, groups and settings of any shape.
//!
//! The other files of this directory test what the method achieves on a table; here stand the
//! values that a reader can compute on paper, and the shapes that data and luck can bring.

mod recording;
mod scripted;
mod settings;

mod annotating;
mod bounding;
mod contexts;
mod divergence;
mod drafting;
mod e_step_extremes;
mod e_step_weights;
mod exploring;
mod formulas;
mod loop_models;
mod loop_phases;
mod loop_positions;
mod programs_extremes;
mod programs_weights;
mod room;
mod sequences;
mod traces;
mod writing;
