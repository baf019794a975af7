//! What a line of a rollout earns (docs/algorithm.md, "E-step" and "The bound"): the expert's
//! log-probability less the price of its latent. Arithmetic on scores; no policy, no tokens.

/// What a switch costs, and what it is weighed against.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(schemars::JsonSchema, serde::Serialize, serde::Deserialize),
    serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)
)]
pub enum Penalty {
    /// The switch cost `c`, a constant in nats for each think. `inf` forbids thinking: there is
    /// then nothing to decide, no marker is written, and RA3 is next-token prediction.
    SwitchCost {
        /// The cost in nats; `inf` forbids thinking.
        cost: f32,
    },
    /// `log q − log p` of the sticky prior; `α` is its probability of keeping the latent, and the
    /// model after the cold start gives `p_0` of the rationale.
    ExactKl {
        /// Prior probability of keeping the latent.
        alpha: f32,
    },
    /// As `switch_cost`, with the mean of a line's log-probabilities for their sum:
    /// long lines then weigh no more than short ones. No bound belongs to it.
    SwitchCostOnMean {
        /// The cost in nats a token; `inf` forbids thinking.
        cost: f32,
    },
    /// As `switch_cost`, with the line's probability for its logarithm (VeriFree, arXiv
    /// 2505.21493). No bound belongs to it.
    SwitchCostOnProbability {
        /// The cost as a probability; `inf` forbids thinking.
        cost: f32,
    },
}

impl Penalty {
    /// True where no think could ever pay: nothing is decided then.
    pub fn forbids_thinking(self) -> bool {
        match self {
            Self::SwitchCost { cost }
            | Self::SwitchCostOnMean { cost }
            | Self::SwitchCostOnProbability { cost } => cost == f32::INFINITY,
            Self::ExactKl { .. } => false,
        }
    }

    /// True where `p_0` of a rationale is read.
    pub fn needs_reference(self) -> bool {
        matches!(self, Self::ExactKl { .. })
    }
}

/// What the models say of one line and its latent, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LineScore {
    /// Whether its latent is a switch; `None` where nothing was decided.
    pub is_think: Option<bool>,
    /// `log q(z_t | h_t)`; what was forced counts 0.
    pub latent_logprob: f32,
    /// `log p_0(r)` of the rationale; 0 without one.
    pub rationale_logprob: f32,
    /// `log π(a_t | h_t, z_t)`.
    pub line_logprob: f32,
    /// Tokens of the line.
    pub n_line_tokens: usize,
}

impl LineScore {
    /// `r_t`.
    pub fn reward(&self, penalty: Penalty) -> f32 {
        let Some(is_think) = self.is_think else {
            return self.line_logprob;
        };
        let price = |cost: f32| if is_think { cost } else { 0.0 };
        match penalty {
            Penalty::SwitchCost { cost } => self.line_logprob - price(cost),
            Penalty::SwitchCostOnMean { cost } => {
                self.line_logprob / self.n_line_tokens.max(1) as f32 - price(cost)
            }
            Penalty::SwitchCostOnProbability { cost } => self.line_logprob.exp() - price(cost),
            Penalty::ExactKl { alpha } => {
                self.line_logprob - (self.latent_logprob - self.log_prior(alpha))
            }
        }
    }

    /// `log p(z_t | h_t)` of the sticky prior: `log α` for an act, `log (1 − α) + log p_0(r)` for a
    /// think; 0 where nothing was decided.
    pub fn log_prior(&self, alpha: f32) -> f32 {
        match self.is_think {
            None => 0.0,
            Some(false) => alpha.ln(),
            Some(true) => (1.0 - alpha).ln() + self.rationale_logprob,
        }
    }

    /// `log π + log p − log q`: one step of the bound, whose sum over lines is a draw's log-weight.
    pub fn log_weight(&self, alpha: f32) -> f64 {
        f64::from(self.line_logprob) - f64::from(self.latent_logprob)
            + f64::from(self.log_prior(alpha))
    }
}
