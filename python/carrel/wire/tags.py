"""What has an ETag of its own among others in a list. It knows nothing of HTTP."""

import hashlib

from pydantic import BaseModel, computed_field


class Tagged(BaseModel):
    """An entry of a list that can be changed by itself."""

    @computed_field(description="Its ETag: `If-Match` takes it, in quotes, where this is changed.")  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def etag(self) -> str:
        """32 hex digits that are others as soon as anything of it is."""
        return hashlib.sha256(self.model_dump_json(exclude={"etag"}).encode()).hexdigest()[:32]
