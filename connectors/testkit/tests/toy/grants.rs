//! The made-up connector: access that a person grants. The world's grants are words.

use std::time::Duration;

use connector_api::{
    Authorization, AuthorizationRequest, AuthorizationStep, Begun, Error, ExposeSecret as _,
    Progress, Result, Way, async_trait,
};

use crate::toy::connector::Toy;
use crate::toy::setup::Break;

const NAME: &str = "grant";

impl Toy {
    pub async fn granted(&self) -> Option<String> {
        let kept = self.credentials.load(NAME).await.unwrap();
        kept.map(|value| value.expose_secret().to_owned())
    }
}

#[async_trait]
impl Authorization for Toy {
    fn ways(&self) -> Vec<Way> {
        vec![Way::Device, Way::Redirect]
    }

    async fn begin(&self, request: AuthorizationRequest) -> Result<Begun> {
        let question = self.world()?.question();
        let code = (request == AuthorizationRequest::Device).then(|| question.clone());
        Ok(Begun {
            url: question.clone(),
            code,
            ask_after: Duration::from_secs(1),
            expires_in: Duration::from_secs(60),
            state: question.into(),
        })
    }

    async fn advance(&self, step: AuthorizationStep) -> Result<Progress> {
        let question = step.state.expose_secret();
        let answered = match &step.answer {
            Some(answer) => answer.expose_secret(),
            None => question,
        };
        if answered != question && !self.is(Break::TakesAnyAnswer) {
            return Err(Error::auth("that answers another question"));
        }
        let Some(granted) = self.world()?.grant_of(answered) else {
            return Ok(Progress::Waiting {
                ask_after: Duration::from_secs(1),
                state: step.state,
            });
        };
        if !self.is(Break::ForgetsTheGrant) {
            self.credentials.save(NAME, granted.into()).await?;
        }
        Ok(Progress::Granted)
    }
}
