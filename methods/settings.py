"""What all tables of a recipe are: values that are checked when they are made and never change."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Unknown keys are errors. A comment behind a field is its help text on the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)
