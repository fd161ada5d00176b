"""The one version of the project, that of its charts and images, and that of the rules by which facts are made."""

VERSION = "0.1.0"

# Facts that other rules have made are asked for anew. Counted up by whoever changes what is read of files or judged of
# them, within one version of the project.
FACTS_VERSION = f"{VERSION}/4"
