"""The IO manager that keeps the records of assets as JSON files in the lake."""

from collections.abc import Mapping

from dagster import AssetKey, ConfigurableIOManager, Failure, InputContext, OutputContext, ResourceDependency

from usedcars_assets.failures import clear_failures
from usedcars_assets.references import REFERENCE, Reference
from usedcars_assets.resources.lake import Lake


def reference_path(key: AssetKey, partition: str | None = None) -> str:
    """Where the record of an asset, or of one of its partitions, lies in the lake."""
    name = "/".join(key.path)
    return f"assets/{name}.json" if partition is None else f"assets/{name}/{partition}.json"


def read_reference(lake: Lake, key: AssetKey) -> Reference:
    """The record of an asset without partitions; a Failure if it was never materialised."""
    content = lake.read_json(reference_path(key))
    if content is None:
        name = key.to_user_string()
        raise Failure(f"{name} was never materialised: materialise it first.", allow_retries=False)
    return REFERENCE.validate_python(content)


class ReferenceIOManager(ConfigurableIOManager):
    """A record for an asset without partitions; a mapping of batch to record for one with."""

    lake: ResourceDependency[Lake]

    def handle_output(self, context: OutputContext, obj: Reference | Mapping[str, Reference]) -> None:
        """Writes the record or records, each in one step."""
        with clear_failures(f"recording {context.asset_key.to_user_string()}"):
            if isinstance(obj, Mapping):
                for partition, reference in obj.items():
                    path = reference_path(context.asset_key, partition)
                    self.lake.write_json(path, reference.model_dump(mode="json"))
            else:
                self.lake.write_json(reference_path(context.asset_key), obj.model_dump(mode="json"))

    def load_input(self, context: InputContext) -> Reference | dict[str, Reference]:
        """Reads them; batches that have no record (never cleaned, in quarantine) are left out."""
        with clear_failures(f"reading the record of {context.asset_key.to_user_string()}"):
            if not context.has_asset_partitions:
                return read_reference(self.lake, context.asset_key)
            found = {
                partition: self.lake.read_json(reference_path(context.asset_key, partition))
                for partition in context.asset_partition_keys
            }
        return {key: REFERENCE.validate_python(content) for key, content in found.items() if content}
