/* Every attribute of every object of the files named on standard input, through libhdf5. */

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long long attributes;

static herr_t read_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    hid_t stored = H5Aget_type(attribute);
    hid_t type = H5Tget_native_type(stored, H5T_DIR_ASCEND);
    hid_t space = H5Aget_space(attribute);
    size_t size = H5Tget_size(type) * (size_t)H5Sget_simple_extent_npoints(space);
    void *values = malloc(size ? size : 1);

    if (H5Aread(attribute, type, values) < 0)
        exit(1);
    if (H5Tdetect_class(type, H5T_VLEN) > 0 || H5Tis_variable_str(type) > 0)
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, values);
    free(values);
    H5Sclose(space);
    H5Tclose(type);
    H5Tclose(stored);
    H5Aclose(attribute);
    attributes++;
    return 0;
}

static herr_t visit(hid_t root, const char *name, const H5O_info_t *info, void *data)
{
    hid_t object = H5Oopen(root, name, H5P_DEFAULT);

    H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, read_attribute, NULL);
    H5Oclose(object);
    return 0;
}

int main(void)
{
    char path[4096];

    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
        if (file < 0)
            return 1;
        H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_NATIVE, visit, NULL, H5O_INFO_BASIC);
        H5Fclose(file);
    }
    printf("%lld\n", attributes);
    return 0;
}
