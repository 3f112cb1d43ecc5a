# The images keyturn (the default target) and keyturn-sidecar (--target sidecar), which only serves a mounted Secret.
#
# The digest is that of the multi-platform index. It was copied from repos/python/remote/3.14-slim-trixie.md in
# docker-library/repo-info at commit 422f3cfe488dc9ae394c5058b27db617f72c91db, which describes the image of 2026-09-01 with
# PYTHON_VERSION=3.14.7. Dependabot updates it.
# Any image with Python 3.11 or newer, the venv module and CA certificates works: buildah build --from IMAGE.
FROM python:3.14-slim-trixie@sha256:656d12e70054d5fda18a045e2494c96701e9792dd1445f95b3d038df954f57e9 AS base
# buildah commits a stage without instructions again in each build, so that nothing after it would come from the cache.
LABEL org.opencontainers.image.licenses=Apache-2.0

FROM base AS installer
# The first environment installs into the second, which is shipped and therefore has no pip.
RUN python3 -m venv /installer && python3 -m venv --without-pip /opt/keyturn
ENV PIP_NO_CACHE_DIR=1 PIP_REQUIRE_HASHES=1 PIP_NO_DEPS=1 PIP_ONLY_BINARY=:all: PIP_PYTHON=/opt/keyturn

FROM installer AS package
COPY operator/keyturn /keyturn
# The package is pure Python, so copying it is equivalent to installing it.
RUN cp -R /keyturn /opt/keyturn/lib/python3.*/site-packages/ \
 && printf '#!/opt/keyturn/bin/python3\nfrom keyturn.cli import main\nmain()\n' >/opt/keyturn/bin/keyturn \
 && chmod 755 /opt/keyturn/bin/keyturn \
 && /opt/keyturn/bin/python3 -m compileall -q /opt/keyturn/lib/python3.*/site-packages/keyturn

FROM base AS runtime
# The public image contains pip; an image for production needs none.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/pip*
ENV PATH=/opt/keyturn/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["keyturn"]

FROM installer AS sidecar-packages
COPY requirements/sidecar.txt /
RUN /installer/bin/pip install -r /sidecar.txt

FROM runtime AS sidecar
LABEL org.opencontainers.image.title=keyturn-sidecar \
      org.opencontainers.image.description="Serves the short-lived AWS credentials in a mounted Secret to the AWS SDKs in a Pod"
COPY --from=sidecar-packages /opt/keyturn /opt/keyturn
COPY --from=package /opt/keyturn/lib /opt/keyturn/lib
COPY --from=package /opt/keyturn/bin/keyturn /opt/keyturn/bin/

FROM installer AS operator-packages
COPY requirements/run.txt /
# The data of botocore describes each AWS service; these are called by exchanges and by the default credential chain.
RUN /installer/bin/pip install -r /run.txt \
 && find /opt/keyturn/lib/python3.*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
    ! -name codeartifact ! -name cognito-identity ! -name ecr ! -name ecr-public ! -name license-manager \
    ! -name signin ! -name sso ! -name sso-oidc ! -name sts -exec rm -r {} +

FROM runtime AS operator
LABEL org.opencontainers.image.title=keyturn \
      org.opencontainers.image.description="Keeps short-lived AWS credentials fresh: a Kubernetes operator and sidecar"
# Without these, glibc keeps the memory of large objects: 290 MiB instead of 220 MiB after 64 Secrets of 1 MiB at once.
ENV MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072
COPY --from=operator-packages /opt/keyturn /opt/keyturn
COPY --from=package /opt/keyturn/lib /opt/keyturn/lib
COPY --from=package /opt/keyturn/bin/keyturn /opt/keyturn/bin/
